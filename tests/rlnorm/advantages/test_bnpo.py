import pytest
import torch

from rlnorm.advantages.bnpo import beta_density, bnpo, fit_beta
from rlnorm.types import Advantages


def close(got, want, tol=1e-12):
    got = got.values if isinstance(got, Advantages) else got
    want = torch.as_tensor(want, dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=tol, atol=tol)


def table(*groups):
    rewards = torch.tensor([r for group in groups for r in group], dtype=torch.float64)
    index = torch.tensor([g for g, group in enumerate(groups) for _ in group])
    return rewards[:, None], index


def test_moments():
    # means 1/4, 1/2, 3/4, 3/4: mean 9/16, squares 20 + 4 + 12 + 12 over 16^2... = 11/16 / 4 / 3
    fit = fit_beta(torch.tensor([0.25, 0.5, 0.75, 0.75], dtype=torch.float64))
    variance = ((5 / 16) ** 2 + (1 / 16) ** 2 + 2 * (3 / 16) ** 2) / 3
    concentration = (9 / 16) * (7 / 16) / variance - 1
    assert fit.mean == pytest.approx(9 / 16, abs=1e-12)
    assert fit.variance == pytest.approx(variance, abs=1e-12)
    assert fit.alpha == pytest.approx(1 + concentration * 9 / 16 / 3, abs=1e-12)
    assert fit.beta == pytest.approx(1 + concentration * 7 / 16 / 3, abs=1e-12)


def test_density_against_closed_forms():
    p = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    close(beta_density(p, 1.0, 1.0), [1, 1, 1])
    close(beta_density(p, 2.0, 1.0), 2 * p)
    close(beta_density(p, 1.5, 1.5), 8 / torch.pi * (p * (1 - p)).sqrt())


def test_advantage_is_the_centred_reward_over_the_density():
    rewards, index = table([1, 0, 0, 0], [1, 1, 0, 0])
    # mean 3/8, variance 1/32: a + b = 6.5, a = 39/16, b = 65/16
    alpha, beta = 1 + 39 / 48, 1 + 65 / 48
    p = torch.tensor([0.25] * 4 + [0.5] * 4, dtype=torch.float64)
    close(bnpo(rewards, index), (rewards[:, 0] - p) / beta_density(p, alpha, beta))
    close(bnpo(rewards, index, weight_max=0.5).values[:4], [0.375, -0.125, -0.125, -0.125])


def test_the_range_is_mapped_to_the_unit_interval():
    rewards, index = table([1, 0, 0, 0], [1, 1, 0, 0])
    close(bnpo(4 * rewards - 1, index, min_value=-1.0, max_value=3.0), bnpo(rewards, index).values)


def test_components_are_averaged():
    rewards, index = table([1, 0, 0, 0], [1, 1, 0, 0])
    other, _ = table([1, 1, 1, 0], [1, 0, 1, 0])
    both = bnpo(torch.cat((rewards, other), dim=1), index)
    close(both, (bnpo(rewards, index).values + bnpo(other, index).values) / 2)


def test_weights_average_the_components_by_their_ratio():
    # one prompt: alpha = beta = 1, so each component is its reward minus its mean
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    # components: +-1/2; (3 * 1/2 - 1/2) / 4 = 1/4, (3 * 1/2 + 1/2) / 4 = 1/2
    one_prompt = torch.zeros(4, dtype=torch.long)
    close(bnpo(rewards, one_prompt, weights=[3.0, 1.0]), [0.25, 0.5, -0.25, -0.5])
    close(bnpo(rewards, one_prompt, weights=[0.3, 0.1]), [0.25, 0.5, -0.25, -0.5])
    # a cost: (3 * 1/2 + 1/2) / 4 for the first
    close(bnpo(rewards, one_prompt, weights=[3.0, -1.0]), [0.5, 0.25, -0.5, -0.25])


def test_equal_weights_are_the_mean_and_a_weight_of_0_leaves_a_component_out():
    first, index = table([1, 0, 0, 0], [1, 1, 0, 0])
    other, _ = table([1, 1, 1, 0], [1, 0, 1, 0])
    both = torch.cat((first, other), dim=1)
    close(bnpo(both, index, weights=[0.1, 0.1]), bnpo(both, index).values)
    close(bnpo(both, index, weights=[0.1, 0.0]), bnpo(first, index).values)
    # a component outside the range, or the only one that a rollout has, is no matter then either
    long, gone = 50 * other, first.clone()
    gone[0] = torch.nan
    alone = bnpo(gone, index)
    with_long = bnpo(torch.cat((gone, long), dim=1), index, weights=[1.0, 0.0])
    close(with_long, alone.values)
    assert with_long.keep.tolist() == alone.keep.tolist() == [False] + [True] * 7


def test_the_format_counts_for_bnpo_as_little_as_for_grpo():
    # two right answers without the format, two wrong ones with it: 1 to 0.1 prefers the right ones
    rewards = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    one_prompt = torch.zeros(4, dtype=torch.long)
    close(bnpo(rewards, one_prompt), [0, 0, 0, 0])
    # (1/2 - 0.1 / 2) / 1.1 = 9 / 22
    close(bnpo(rewards, one_prompt, weights=[1.0, 0.1]), [9 / 22, 9 / 22, -9 / 22, -9 / 22])


def test_means_that_do_not_vary_are_reinforce():
    rewards, index = table([1, 0], [0, 1])
    close(bnpo(rewards, index), [0.5, -0.5, -0.5, 0.5])
    one, alone = table([1, 1, 0, 0])
    close(bnpo(one, alone), [0.5, 0.5, -0.5, -0.5])


def test_groups_of_one_stay_out_of_the_fit():
    rewards, index = table([1, 0, 0, 0], [1], [1, 1, 0, 0])
    without, rest = table([1, 0, 0, 0], [1, 1, 0, 0])
    got = bnpo(rewards, index).values
    assert got[4] == 0.0
    close(torch.cat((got[:4], got[5:])), bnpo(without, rest).values)
