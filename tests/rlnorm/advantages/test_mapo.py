import torch

from rlnorm.advantages.mapo import mapo, turn_returns
from rlnorm.types import Advantages

NAN = float("nan")
REWARDS = torch.tensor([[1.0, 2.0], [3.0, NAN], [5.0, 0.0]], dtype=torch.float64)
GROUPS = torch.tensor([0, 0, 1])


def close(got, want):
    got = got.values if isinstance(got, Advantages) else got
    torch.testing.assert_close(
        got, torch.tensor(want, dtype=torch.float64), rtol=1e-7, atol=1e-7, equal_nan=True
    )


def test_returns_skip_turns_that_are_not_there():
    close(turn_returns(REWARDS, gamma=0.5), [[2, 2], [3, NAN], [5, 0]])
    gap = torch.tensor([[1.0, NAN, 4.0]], dtype=torch.float64)
    close(turn_returns(gap, gamma=0.5), [[3, NAN, 4]])


def test_the_turn_part_compares_returns_at_the_same_turn():
    # turn 0 of group 0: returns 3 and 3 with gamma 1, 2 and 3 with gamma 1/2
    close(mapo(REWARDS, GROUPS, alpha=1.0, beta=0.0), [[0, 0], [0, 0], [0, 0]])
    close(mapo(REWARDS, GROUPS, alpha=1.0, beta=0.0, gamma=0.5), [[-1, 0], [1, 0], [0, 0]])


def test_the_batch_part_compares_rewards_over_all_turns_of_the_scope():
    # group 0: 1 2 3, mean 2, population std sqrt(2/3); group 1: 5 0
    a = 1.5**0.5
    close(mapo(REWARDS, GROUPS, alpha=0.0, beta=1.0), [[-a, 0], [a, 0], [1, -1]])
    # the batch: 1 2 3 5 0, mean 2.2, squares 14.8
    b = (14.8 / 5) ** 0.5
    batch = mapo(REWARDS, GROUPS, alpha=0.0, beta=1.0, batch_scope="batch")
    close(batch, [[-1.2 / b, -0.2 / b], [0.8 / b, 0], [2.8 / b, -2.2 / b]])


def test_ddof_eps_and_mixture():
    # unbiased: std of 1 2 3 is 1, of 5 0 is sqrt(12.5); of returns 2 3 it is sqrt(1/2)
    got = mapo(REWARDS, GROUPS, alpha=2.0, beta=10.0, gamma=0.5, ddof=1, eps=1.0)
    turn = 0.5 / (0.5**0.5 + 1) * 2
    close(got.values[:2], [[-turn - 5, 0], [turn + 5, 0]])
    c = 25 / (12.5**0.5 + 1)
    close(got.values[2:], [[c, -c]])
