import torch

from rlnorm.advantages.mapo_certainty import mapo_certainty


def test_certainty_mixes_zscore_and_relative_deviation(close):
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)[:, None]
    groups = torch.zeros(4, dtype=torch.long)
    # p 1/4, lam 3/4; std 1/2, mean 1/4
    up = 0.75 * 0.75 / (0.5 + 0.5) + 0.25 * 0.75 / (0.25 + 1)
    down = -up / 3
    got = mapo_certainty(rewards, groups, std_eps=0.5, mean_eps=1.0)
    close(got, [up, down, down, down])
    population = mapo_certainty(rewards, groups, ddof=0)
    spread = 0.1875**0.5 + 1e-6
    close(population.values[0], 0.75 * 0.75 / spread + 0.25 * 0.75 / (0.25 + 1e-6))


def test_only_rewards_of_exactly_one_make_certainty(close):
    rewards = torch.tensor([0.5, 0.0], dtype=torch.float64)[:, None]
    close(mapo_certainty(rewards, torch.zeros(2, dtype=torch.long), mean_eps=0.0), [1, -1])
