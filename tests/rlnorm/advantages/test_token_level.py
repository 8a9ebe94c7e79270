import torch

from rlnorm.advantages.otb import otb
from rlnorm.advantages.reinforce_pp import reinforce_pp, reinforce_pp_kl
from rlnorm.types import Advantages

INDEX = torch.tensor([0, 0, 1, 2, 2, 2])
GROUPS = torch.tensor([4, 4, 4])
REWARDS = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)[:, None]


def close(got, want):
    got = got.values if isinstance(got, Advantages) else got
    want = torch.as_tensor(want, dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def whitened(values, eps):
    values = torch.tensor(values, dtype=torch.float64)
    mean = values.sum() / len(values)
    variance = (values - mean).square().sum() / (len(values) - 1)
    return (values - mean) / (variance + eps).sqrt()


def test_reinforce_pp_whitens_over_tokens():
    close(reinforce_pp(REWARDS, GROUPS, INDEX, eps=0.25), whitened([2, 2, 0, 1, 1, 1], 0.25))
    discounted = [1, 2, 0, 0.25, 0.5, 1]
    close(reinforce_pp(REWARDS, GROUPS, INDEX, gamma=0.5), whitened(discounted, 1e-8))


def test_with_the_group_mean_as_baseline():
    # mean 1
    close(reinforce_pp(REWARDS, GROUPS, INDEX, baseline=True), whitened([1, 1, -1, 0, 0, 0], 1e-8))
    alone = reinforce_pp(REWARDS, torch.tensor([4, 4, 5]), INDEX, baseline=True)
    close(alone, whitened([1, 1, -1, 0, 0, 0], 1e-8))
    kept = reinforce_pp(REWARDS, torch.tensor([4, 4, 5]), INDEX, baseline=True, singleton="reward")
    close(kept, whitened([1, 1, -1, 1, 1, 1], 1e-8))


def test_dense_rewards_and_a_masked_rollout():
    dense = torch.tensor([1.0, 2.0, 5.0, 0.0, 1.0, 4.0], dtype=torch.float64)
    got = reinforce_pp(REWARDS, GROUPS, INDEX, dense, gamma=0.5)
    close(got, whitened([2, 2, 5, 1.5, 3, 4], 1e-8))
    masked = REWARDS.clone()
    masked[1] = torch.nan
    got = reinforce_pp(masked, GROUPS, INDEX)
    want = whitened([2, 2, 1, 1, 1], 1e-8)
    close(got, [want[0], want[1], 0, want[2], want[3], want[4]])


def test_kl_is_a_reward_of_every_token():
    old = torch.tensor([0.0, -1.0, -2.0, -1.0, -1.0, -3.0], dtype=torch.float64)
    ref = torch.tensor([-1.0, -1.0, -2.0, -1.0, -3.0, -2.0], dtype=torch.float64)
    # old - ref: 1 0 | 0 | 0 2 -1; token rewards -0.5 times that, plus 2 | 0 | 1 at the end
    got = reinforce_pp_kl(REWARDS, GROUPS, INDEX, old, ref, kl_coef=0.5)
    close(got, whitened([1.5, 2, 0, 0.5, 0.5, 1.5], 1e-8))


def test_otb_weighs_returns_by_accumulated_score_norms():
    old = torch.tensor([0.5, 0.25, 0.5, 0.25, 0.5, 0.5], dtype=torch.float64).log()
    p2 = torch.tensor([0.5, 0.5, 0.25, 0.5, 0.25, 0.25], dtype=torch.float64)
    # 1 - 2p + sum p^2: .5 1 | .25 | 1 .25 .25; running: .5 1.5 | .25 | 1 1.25 1.5
    step0 = (2 * 0.5 + 0 + 1) / (0.5 + 0.25 + 1 + 0.25)
    step1 = (2 * 1.5 + 1.25) / (1.5 + 1.25 + 0.25)
    got = otb(REWARDS, GROUPS, INDEX, old, p2, eps=0.25)
    close(got, [2 - step0, 2 - step1, -step0, 1 - step0, 1 - step1, 1])
    tail = otb(REWARDS, GROUPS, INDEX, old, p2, eps=0.25, zero_tail=False)
    close(tail.values[-1], 1 - 1.5 / (1.5 + 0.25))


def test_otb_of_equal_rewards_or_a_group_of_one_is_zero():
    old, p2 = torch.full((6,), -1.0), torch.full((6,), 0.2)
    same = torch.full((3, 1), 0.1)
    assert torch.equal(
        otb(same, GROUPS, INDEX, old, p2).values, torch.zeros(6, dtype=torch.float64)
    )
    apart = otb(REWARDS, torch.tensor([0, 1, 2]), INDEX, old, p2)
    assert torch.equal(apart.values, torch.zeros(6, dtype=torch.float64))
