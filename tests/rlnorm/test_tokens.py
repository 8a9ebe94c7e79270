import torch

from rlnorm.tokens import (
    rewards_to_go,
    rollout_lengths,
    rollout_mean,
    rollout_sum,
    running_sum,
    token_positions,
)

INDEX = torch.tensor([0, 0, 0, 2, 2, 3])
VALUES = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], dtype=torch.float64)


def same(got, want):
    assert got.tolist() == want


def test_sums_and_means_give_zero_to_a_rollout_without_tokens():
    same(rollout_sum(VALUES, INDEX), [7, 0, 24, 32])
    same(rollout_mean(VALUES, INDEX, 5), [7 / 3, 0, 12, 32, 0])
    same(rollout_mean(VALUES, INDEX, eps=1.0), [7 / 4, 0, 8, 16])
    same(rollout_lengths(INDEX), [3, 0, 2, 1])
    same(token_positions(INDEX), [0, 1, 2, 0, 1, 0])


def test_no_tokens_at_all():
    none = torch.tensor([], dtype=torch.long)
    same(rollout_sum(torch.tensor([]), none), [])
    same(rewards_to_go(torch.tensor([]), none), [])


def test_rewards_to_go_discounts_within_the_rollout():
    same(rewards_to_go(VALUES, INDEX), [7, 6, 4, 24, 16, 32])
    # 1 + 2/2 + 4/4, 2 + 4/2, 4; 8 + 16/2, 16; 32
    same(rewards_to_go(VALUES, INDEX, gamma=0.5), [3, 4, 4, 16, 16, 32])


def test_rewards_to_go_of_a_long_rollout_is_the_recursion():
    torch.manual_seed(0)
    rewards = torch.randn(101, dtype=torch.float64)
    expected, later = [], 0.0
    for reward in reversed(rewards.tolist()):
        later = reward + 0.93 * later
        expected.append(later)
    got = rewards_to_go(rewards, torch.zeros(101, dtype=torch.long), gamma=0.93)
    torch.testing.assert_close(got, torch.tensor(expected[::-1], dtype=torch.float64))


def test_running_sum_starts_anew_in_each_rollout():
    same(running_sum(VALUES, INDEX), [1, 3, 7, 8, 24, 32])


def test_sums_carry_gradient():
    values = VALUES.clone().requires_grad_()
    rollout_mean(values, INDEX)[2].backward()
    same(values.grad, [0, 0, 0, 0.5, 0.5, 0])
