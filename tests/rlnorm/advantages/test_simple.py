"""Estimators of one line each: reinforce, rloo, opo, gpg, remax, pass_at_k."""

import pytest
import torch

from rlnorm.advantages.gpg import gpg
from rlnorm.advantages.opo import opo
from rlnorm.advantages.pass_at_k import pass_at_k
from rlnorm.advantages.reinforce import reinforce
from rlnorm.advantages.remax import remax
from rlnorm.advantages.rloo import rloo
from rlnorm.types import Advantages

NAN = float("nan")
GROUPS = torch.tensor([0, 1, 0, 0, 1, 2])
# group 0: 1, 0, 5; group 1: 3, 7; group 2 alone
REWARDS = torch.tensor([1.0, 3.0, 0.0, 5.0, 7.0, 9.0], dtype=torch.float64)[:, None]
MASKED = torch.tensor([1.0, 3.0, 0.0, NAN, 7.0, NAN], dtype=torch.float64)[:, None]


def close(got, want):
    got = got.values if isinstance(got, Advantages) else got
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_reinforce_baselines():
    close(reinforce(REWARDS, GROUPS), [-1, -2, -2, 3, 2, 0])
    close(reinforce(REWARDS, GROUPS, baseline="batch"), [v - 25 / 6 for v in (1, 3, 0, 5, 7, 9)])
    close(reinforce(REWARDS, GROUPS, baseline="none"), [1, 3, 0, 5, 7, 9])
    close(reinforce(MASKED, GROUPS), [0.5, -2, -0.5, 0, 2, 0])


def test_rloo_is_the_mean_of_the_others():
    # 1 - 2.5, 3 - 7, 0 - 3, 5 - 0.5, 7 - 3
    close(rloo(REWARDS, GROUPS), [-1.5, -4, -3, 4.5, 4, 0])
    close(rloo(MASKED, GROUPS), [1, -4, -1, 0, 4, 0])


def test_opo_weighs_by_length():
    lengths = torch.tensor([4, 1, 2, 2, 3, 5])
    # (4 + 0 + 10) / 8 = 1.75; (3 + 21) / 4 = 6
    close(opo(REWARDS, GROUPS, lengths), [-0.75, -3, -1.75, 3.25, 1, 0])


def test_gpg_scales_by_rollouts_over_rewarded_ones():
    # 6 rollouts, 5 with a reward; masked: 4 and 3
    close(gpg(REWARDS, GROUPS, f_norm=2.0), [v * 0.6 for v in (-1, -2, -2, 3, 2, 0)])
    close(gpg(MASKED, GROUPS), [v * 4 / 3 for v in (0.5, -2, -0.5, 0, 2, 0)])


def test_remax_subtracts_the_greedy_reward():
    greedy = torch.tensor([2.0, 4.0, 2.0, 2.0, NAN, 0.5])
    close(remax(REWARDS, GROUPS, greedy), [-1, -1, -2, 3, 0, 8.5])


@pytest.mark.parametrize("ddof", [0, 1])
def test_pass_at_k_rewards_the_best_by_its_lead(ddof):
    # leads 5 - 1 and 7 - 3; sums of squares 14 and 8
    a, b = (14 / (3 - ddof)) ** 0.5 + 0.5, (8 / (2 - ddof)) ** 0.5 + 0.5
    close(pass_at_k(REWARDS, GROUPS, eps=0.5, ddof=ddof), [0, 0, 0, 4 / a, 4 / b, 0])
    close(pass_at_k(REWARDS, GROUPS, norm_by_std=False), [0, 0, 0, 4, 4, 0])
    close(pass_at_k(MASKED, GROUPS, norm_by_std=False), [1, 0, 0, 0, 4, 0])
    ties = torch.tensor([2.0, 2.0, 1.0])[:, None]
    close(pass_at_k(ties, torch.zeros(3, dtype=torch.long)), [0, 0, 0])
