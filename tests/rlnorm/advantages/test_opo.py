import torch

from rlnorm.advantages.opo import opo


def test_opo_weighs_by_length(groups, rewards, close):
    lengths = torch.tensor([4, 1, 2, 2, 3, 5])
    # (4 + 0 + 10) / 8 = 1.75; (3 + 21) / 4 = 6
    close(opo(rewards, groups, lengths), [-0.75, -3, -1.75, 3.25, 1, 0])
