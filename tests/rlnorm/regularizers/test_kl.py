from math import exp, log

import pytest
import torch

from rlnorm.regularizers.kl import kl, kl_corrected, kl_estimate


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


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
def test_kl_values_and_gradients(kind, value, gradient, close):
    logprobs = LP.clone().requires_grad_()
    estimate = kl(logprobs, REF, kind=kind, coef=3.0)
    close(estimate.detach(), [3 * v for v in value])
    close(torch.autograd.grad(estimate.sum(), logprobs)[0], [3 * g for g in gradient])


def test_k3_is_clamped_unless_told_otherwise(close):
    logprobs = vector(-5.0).requires_grad_()
    estimate = kl_estimate(logprobs, vector(-0.5))
    close(estimate.detach(), [10])
    close(torch.autograd.grad(estimate.sum(), logprobs)[0], [0])
    close(kl_estimate(vector(-5.0), vector(-0.5), clamp=False), [exp(4.5) - 5.5])
    far = kl_estimate(vector(-90.0), vector(0.0), clamp=False)
    close(far, [exp(90.0) - 91])


def test_corrected_kl_carries_the_ratio(close):
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
