import pytest
import torch

from rlnorm.advantages.grpo import grpo
from rlnorm.types import Advantages

GROUPS = torch.tensor([0, 1, 0, 0, 1])
# group 0: 1, 0, 5 with mean 2 and squares 1 + 4 + 9 = 14; group 1: 3, 7
REWARDS = torch.tensor([1.0, 3.0, 0.0, 5.0, 7.0], dtype=torch.float64)[:, None]


def close(got, want):
    got = got.values if isinstance(got, Advantages) else got
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_unbiased_std_plus_eps():
    a, b = 7**0.5 + 0.5, 8**0.5 + 0.5
    close(grpo(REWARDS, GROUPS, eps=0.5), [-1 / a, -2 / b, -2 / a, 3 / a, 2 / b])


def test_population_std():
    a = (14 / 3) ** 0.5
    close(grpo(REWARDS, GROUPS, eps=0.0, ddof=0), [-1 / a, -1, -2 / a, 3 / a, 1])


def test_default_eps():
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)[:, None]
    a = 0.5 / ((1 / 3) ** 0.5 + 1e-6)
    close(grpo(rewards, torch.zeros(4, dtype=torch.long)), [a, -a, -a, a])


def test_one_std_over_the_batch_keeps_the_group_means():
    # 1 3 0 5 7: mean 3.2, squares add up to 32.8
    a = (32.8 / 4) ** 0.5 + 0.5
    close(grpo(REWARDS, GROUPS, scale="batch", eps=0.5), [-1 / a, -2 / a, -2 / a, 3 / a, 2 / a])
    close(grpo(REWARDS, GROUPS, scale="none"), [-1, -2, -2, 3, 2])


def test_columns_are_weighted_before_anything_else():
    table = torch.tensor([[1.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    groups = torch.zeros(3, dtype=torch.long)
    # 2 - 1, 0 - 2, 0: 1, -2, 0
    close(grpo(table, groups, weights=[2.0, -1.0], scale="none"), [4 / 3, -5 / 3, 1 / 3])


def test_a_missing_column_drops_the_rollout_or_is_skipped():
    table = torch.tensor([[1.0, 1.0], [0.0, float("nan")], [0.0, 0.0]], dtype=torch.float64)
    groups = torch.zeros(3, dtype=torch.long)
    close(grpo(table, groups, scale="none"), [1, 0, -1])
    close(grpo(table, groups, scale="none", missing="skip"), [4 / 3, -2 / 3, -2 / 3])
    # a column of weight 0 may be missing
    close(grpo(table, groups, scale="none", weights=[3.0, 0.0]), [2, -1, -1])


def test_a_group_of_one_gives_zero_unless_told_otherwise():
    rewards, alone = torch.tensor([[5.0]]), torch.tensor([0])
    close(grpo(rewards, alone), [0])
    close(grpo(rewards, alone, singleton="reward"), [5 / (1 + 1e-6)])
    close(grpo(rewards, alone, singleton="reward", scale="none"), [5])


@pytest.mark.parametrize("value", [3.3, 0.1, 1 / 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_give_exactly_zero(value, dtype):
    rewards = torch.full((12, 1), value, dtype=dtype)
    got = grpo(rewards, torch.zeros(12, dtype=torch.long), eps=1e-9)
    assert torch.equal(got.values, torch.zeros(12, dtype=torch.float64))
