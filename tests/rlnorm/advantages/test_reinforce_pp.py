import torch

from rlnorm.advantages.reinforce_pp import reinforce_pp, reinforce_pp_kl

INDEX = torch.tensor([0, 0, 1, 2, 2, 2])


GROUPS = torch.tensor([4, 4, 4])


REWARDS = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)[:, None]


def whitened(values, eps):
    values = torch.tensor(values, dtype=torch.float64)
    mean = values.sum() / len(values)
    variance = (values - mean).square().sum() / (len(values) - 1)
    return (values - mean) / (variance + eps).sqrt()


def test_reinforce_pp_whitens_over_tokens(close):
    close(reinforce_pp(REWARDS, GROUPS, INDEX, eps=0.25), whitened([2, 2, 0, 1, 1, 1], 0.25))
    discounted = [1, 2, 0, 0.25, 0.5, 1]
    close(reinforce_pp(REWARDS, GROUPS, INDEX, gamma=0.5), whitened(discounted, 1e-8))


def test_with_the_group_mean_as_baseline(close):
    # mean 1
    close(reinforce_pp(REWARDS, GROUPS, INDEX, baseline=True), whitened([1, 1, -1, 0, 0, 0], 1e-8))
    alone = reinforce_pp(REWARDS, torch.tensor([4, 4, 5]), INDEX, baseline=True)
    close(alone, whitened([1, 1, -1, 0, 0, 0], 1e-8))
    kept = reinforce_pp(REWARDS, torch.tensor([4, 4, 5]), INDEX, baseline=True, singleton="reward")
    close(kept, whitened([1, 1, -1, 1, 1, 1], 1e-8))


def test_dense_rewards_and_a_masked_rollout(close):
    dense = torch.tensor([1.0, 2.0, 5.0, 0.0, 1.0, 4.0], dtype=torch.float64)
    got = reinforce_pp(REWARDS, GROUPS, INDEX, dense, gamma=0.5)
    close(got, whitened([2, 2, 5, 1.5, 3, 4], 1e-8))
    masked = REWARDS.clone()
    masked[1] = torch.nan
    got = reinforce_pp(masked, GROUPS, INDEX)
    want = whitened([2, 2, 1, 1, 1], 1e-8)
    close(got, [want[0], want[1], 0, want[2], want[3], want[4]])


def test_kl_is_a_reward_of_every_token(close):
    old = torch.tensor([0.0, -1.0, -2.0, -1.0, -1.0, -3.0], dtype=torch.float64)
    ref = torch.tensor([-1.0, -1.0, -2.0, -1.0, -3.0, -2.0], dtype=torch.float64)
    # old - ref: 1 0 | 0 | 0 2 -1; token rewards -0.5 times that, plus 2 | 0 | 1 at the end
    got = reinforce_pp_kl(REWARDS, GROUPS, INDEX, old, ref, kl_coef=0.5)
    close(got, whitened([1.5, 2, 0, 0.5, 0.5, 1.5], 1e-8))
