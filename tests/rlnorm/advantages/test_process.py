import torch

from rlnorm.advantages.grpo_process import grpo_process
from rlnorm.advantages.mapo_certainty import mapo_certainty
from rlnorm.types import Advantages

NAN = float("nan")


def close(got, want):
    got = got.values if isinstance(got, Advantages) else got
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_steps_are_scored_together_and_summed_to_the_end():
    steps = torch.tensor([[1.0, 2.0], [3.0, NAN], [7.0, 7.0]], dtype=torch.float64)
    groups = torch.tensor([0, 0, 1])
    # 1 2 3: mean 2, unbiased std 1
    close(grpo_process(steps, groups), [[-1, 0], [1, 0], [0, 0]])
    a = 1.5**0.5 / (1 + 1.5**0.5)
    close(grpo_process(steps, groups, ddof=0, eps=1.0), [[-a, 0], [a, 0], [0, 0]])


def test_later_steps_count_for_earlier_ones():
    steps = torch.tensor([[0.0, 4.0, 2.0]], dtype=torch.float64)
    close(grpo_process(steps, torch.tensor([0])), [[0, 1, 0]])


def test_certainty_mixes_zscore_and_relative_deviation():
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


def test_only_rewards_of_exactly_one_make_certainty():
    rewards = torch.tensor([0.5, 0.0], dtype=torch.float64)[:, None]
    close(mapo_certainty(rewards, torch.zeros(2, dtype=torch.long), mean_eps=0.0), [1, -1])
