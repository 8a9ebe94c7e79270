from math import exp, log

import pytest
import torch

from rlnorm.regularizers.covariance import (
    clip_cov,
    covariance,
    kl_cov,
    select_clip_cov,
    select_kl_cov,
)
from rlnorm.regularizers.entropy import EntropyController, adaptive_entropy, entropy
from rlnorm.regularizers.kl import kl, kl_corrected, kl_estimate
from rlnorm.regularizers.lp_reg import lp_reg, select_lp_reg
from rlnorm.regularizers.opsm import opsm
from rlnorm.regularizers.top_entropy import select_top_entropy, top_entropy


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(got, want):
    want = torch.as_tensor(want, dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


# d = ref - lp: 1, -2
LP, REF = vector(-3.0, -1.0), vector(-2.0, -3.0)


@pytest.mark.parametrize(
    ("kind", "value", "gradient"),
    [
        ("k1", [-1, 2], [1, 1]),
        ("k2", [0.5, 2], [-1, 2]),
        ("k3", [exp(1) - 2, exp(-2) + 1], [1 - exp(1), 1 - exp(-2)]),
        ("abs", [1, 2], [-1, 1]),
        ("k1+", [-1, 2], [-1, 2]),
        ("k3+", [exp(1) - 2, exp(-2) + 1], [-1, 2]),
        ("abs+", [1, 2], [-1, 2]),
    ],
)
def test_kl_values_and_gradients(kind, value, gradient):
    logprobs = LP.clone().requires_grad_()
    estimate = kl(logprobs, REF, kind=kind, coef=3.0)
    close(estimate.detach(), [3 * v for v in value])
    close(torch.autograd.grad(estimate.sum(), logprobs)[0], [3 * g for g in gradient])


def test_k3_is_clamped_unless_told_otherwise():
    logprobs = vector(-5.0).requires_grad_()
    estimate = kl_estimate(logprobs, vector(-0.5))
    close(estimate.detach(), [10])
    close(torch.autograd.grad(estimate.sum(), logprobs)[0], [0])
    close(kl_estimate(vector(-5.0), vector(-0.5), clamp=False), [exp(4.5) - 5.5])
    far = kl_estimate(vector(-90.0), vector(0.0), clamp=False)
    close(far, [exp(90.0) - 91])


def test_corrected_kl_carries_the_ratio():
    index = torch.tensor([0, 0])
    old = LP - vector(log(2.0), log(8.0))
    plain = kl_estimate(LP, REF, kind="k2")
    close(kl_corrected(LP, REF, old, index, kind="k2", coef=1.0), plain * vector(2, 8))
    whole = kl_corrected(LP, REF, old, index, kind="k2", coef=1.0, level="sequence")
    close(whole, plain * 4)
    # d (k2 rho) / d lp = (lp - ref) rho + k2 rho: the ratio has a gradient of its own
    leaf = LP.clone().requires_grad_()
    corrected = kl_corrected(leaf, REF, old, index, kind="k2", coef=1.0)
    (gradient,) = torch.autograd.grad(corrected.sum(), leaf)
    close(gradient, (LP - REF + plain) * vector(2, 8))


def test_entropy_is_a_bonus():
    close(entropy(vector(2.0, 3.0), coef=0.5), [-1, -1.5])
    close(adaptive_entropy(vector(2.0), torch.tensor(0.25, dtype=torch.float64)), [-0.5])


def test_the_entropy_coefficient_follows_its_target():
    options = {"target": 1.0, "delta": 0.25, "coef_min": 0.0, "coef_max": 0.4}
    controller = EntropyController(0.0)
    controller = controller.updated(0.5, **options)
    assert controller == EntropyController(0.25, 0.5)
    assert controller.applied(target=1.0) == 0.25
    controller = controller.updated(1.0, **options)
    assert controller.coef == 0.4
    assert controller.applied(target=1.0) == 0.4
    controller = controller.updated(1.5, **options)
    assert controller.coef == pytest.approx(0.15)
    assert controller.applied(target=1.0) == 0.0
    assert controller.updated(9.0, **options).coef == 0.0


def test_lp_reg_replaces_the_loss_on_its_set():
    logprobs = vector(-3.0, -1.0).requires_grad_()
    selected = torch.tensor([True, False])
    term = lp_reg(
        logprobs,
        vector(-3.0 - log(2.0), -1.0),
        vector(-2.0, -torch.inf),
        vector(-4.0, 1.0),
        selected,
        coef=10.0,
    )
    # -A rho = 8, d = 1: k3 = e - 2
    close(term.values.detach()[:1], [8 + 10 * (exp(1) - 2)])
    assert torch.equal(term.where, selected)
    gradient = torch.autograd.grad(term.values[term.where].sum(), logprobs)[0]
    close(gradient, [8 + 10 * (1 - exp(1)), 0])


def test_lp_reg_selects_the_least_likely_errors_below_their_proxy():
    logprobs = vector(-9.0, -8.0, -7.0, -6.0, -5.0, -20.0)
    proxy = vector(-8.0, -9.0, -6.0, -5.0, -4.0, 0.0)
    advantages = vector(-1.0, -1.0, -1.0, -1.0, -1.0, 1.0)
    # three of five: -9 -8 -7, of which -8 is above its proxy
    got = select_lp_reg(logprobs, proxy, advantages, rho=0.6)
    assert got.tolist() == [True, False, True, False, False, False]
    # one of five is too few
    assert not select_lp_reg(logprobs, proxy, advantages, rho=0.3).any()
    assert select_lp_reg(logprobs, proxy, advantages, rho=0.3, min_tokens=1).sum() == 1
    both = select_lp_reg(logprobs, proxy, advantages, rho=0.0, rho_pos=1.0, min_tokens=1)
    assert both.tolist() == [False] * 5 + [True]
    with pytest.raises(ValueError, match=r"rho = 2.0, needs a value in \[0, 1\]"):
        select_lp_reg(logprobs, proxy, advantages, rho=2.0)


# deviations of the advantages -1 0 1 0, of the logprobs -2 1 2 -1
A, L = vector(0.0, 1.0, 2.0, 1.0), vector(-5.0, -2.0, -1.0, -4.0)


def test_covariance_is_a_product_of_deviations():
    close(covariance(A, L), [2, 0, 2, 0])
    close(covariance(A, vector(-5.0, -2.0, -3.0, -2.0)), [2, 0, 0, 0])


def test_kl_cov_takes_the_largest_and_is_not_clipped():
    assert select_kl_cov(L, A, share=0.5).tolist() == [True, False, True, False]
    assert select_kl_cov(vector(-5.0, -2.0, -3.0, -2.0), A, share=0.01).tolist() == [
        True,
        False,
        False,
        False,
    ]
    logprobs = vector(log(4.0)).requires_grad_()
    term = kl_cov(logprobs, vector(0.0), vector(2.0), torch.tensor([True]), coef=3.0)
    close(term.values.detach(), [-8 + 3 * log(4.0)])
    close(torch.autograd.grad(term.values.sum(), logprobs)[0], [-5])


def test_clip_cov_takes_a_share_of_the_candidates():
    got = select_clip_cov(L, L, A, share=1.0, low=1.0, high=3.0)
    assert got.tolist() == [True, False, True, False]
    assert not select_clip_cov(L, L, A, share=1.0, low=1.0, high=2.0).any()
    assert not select_clip_cov(L, L, A, share=1.0, low=2.0, high=3.0).any()
    one = select_clip_cov(L, L, A, share=0.25, low=1.0, high=3.0)
    assert one.sum() == 1
    assert torch.equal(one, select_clip_cov(L, L, A, share=0.25, low=1.0, high=3.0))
    # the clip holds token 2 already: ratio e for a positive advantage
    old = L - vector(0.0, 0.0, 1.0, 0.0)
    assert select_clip_cov(L, old, A, share=1.0, low=1.0, high=3.0).tolist()[2] is False
    term = clip_cov(L, got)
    assert not term.values.any()
    assert torch.equal(term.where, got)


def test_top_entropy_trains_only_the_top_share():
    entropies = vector(0.1, 0.5, 0.3, 0.2, 0.4)
    selected = select_top_entropy(entropies, share=0.4)
    # the 0.6 quantile of 0.1 ... 0.5 lies at place 2.4: 0.34
    assert selected.tolist() == [False, True, False, False, True]
    term = top_entropy(entropies, selected)
    assert term.where.tolist() == [True, False, True, True, False]
    assert select_top_entropy(entropies, share=1.0).all()


def test_opsm_drops_wrong_rollouts_the_policy_left():
    logprobs, sampler = vector(-3.0, -1.0, -3.0, -1.0), vector(-1.0, -1.0, -1.0, -1.0)
    index = torch.tensor([0, 0, 1, 1])
    # mean drift 1 in both; only the second is wrong
    term = opsm(logprobs, sampler, vector(1.0, 1.0, -1.0, -1.0), index, threshold=0.9)
    assert term.where.tolist() == [False, False, True, True]
    assert not opsm(logprobs, sampler, -vector(1, 1, 1, 1), index, threshold=1.0).where.any()
