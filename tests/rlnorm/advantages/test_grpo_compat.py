import pytest
import torch

from rlnorm.algorithms import resolve_algorithm

THREE_OF_EIGHT = [1.0] * 3 + [0.0] * 5


def largest(name, rewards):
    n = len(rewards)
    data = {
        "rewards": torch.tensor(rewards, dtype=torch.float64)[:, None],
        "group_index": torch.zeros(n, dtype=torch.long),
    }
    return float(resolve_algorithm(name).advantages(data).values.max())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("grpo@verl", 1.2076),  # 0.625 / 0.51755
        ("grpo@openrlhf", 1.2076),
        ("grpo@trl", 1.2074),
        ("grpo@nemo_rl", 1.4638),  # 5/7 over the others' std 0.48795
        ("grpo@nemo_rl_no_loo", 1.2076),
        ("grpo@open_instruct", 1.2910),  # population std 0.48412
        ("grpo@prime_rl", 0.6250),
    ],
)
def test_the_same_group_under_each_framework(name, expected):
    assert round(largest(name, THREE_OF_EIGHT), 4) == expected


def test_rounding_of_equal_rewards_is_kept():
    assert largest("grpo@openrlhf", [0.1] * 8) > 0.5 or largest("grpo@openrlhf", [1 / 3] * 16) > 0.5
    assert largest("grpo@open_instruct", [0.1] * 8) == 0.0
    assert largest("grpo", [0.1] * 8) == 0.0


def test_groups_of_one_and_two():
    assert largest("grpo@verl", [1.0]) == pytest.approx(1 / (1 + 1e-6))
    assert largest("grpo@trl", [1.0]) == 0.0
    # one other rollout has no spread: left unscaled
    assert largest("grpo@nemo_rl", [1.0, 0.0]) == 1.0


def test_missing_rewards_are_left_out():
    data = {
        "rewards": torch.tensor([1.0, float("nan"), 0.0, 0.0], dtype=torch.float64)[:, None],
        "group_index": torch.tensor([0, 0, 0, 0]),
    }
    result = resolve_algorithm("grpo@prime_rl").advantages(data)
    torch.testing.assert_close(
        result.values, torch.tensor([2 / 3, 0, -1 / 3, -1 / 3]).double(), rtol=1e-6, atol=1e-6
    )
    assert result.keep.tolist() == [True, False, True, True]
