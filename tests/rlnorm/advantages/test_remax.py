import torch

from rlnorm.advantages.remax import remax

NAN = float("nan")


def test_remax_subtracts_the_greedy_reward(groups, rewards, close):
    greedy = torch.tensor([2.0, 4.0, 2.0, 2.0, NAN, 0.5])
    close(remax(rewards, groups, greedy), [-1, -1, -2, 3, 0, 8.5])
