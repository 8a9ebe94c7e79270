from math import log

import torch

from rlnorm.regularizers.covariance import (
    clip_cov,
    covariance,
    kl_cov,
    select_clip_cov,
    select_kl_cov,
)


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


# deviations of the advantages -1 0 1 0, of the logprobs -2 1 2 -1
A, L = vector(0.0, 1.0, 2.0, 1.0), vector(-5.0, -2.0, -1.0, -4.0)


def test_covariance_is_a_product_of_deviations(close):
    close(covariance(A, L), [2, 0, 2, 0])
    close(covariance(A, vector(-5.0, -2.0, -3.0, -2.0)), [2, 0, 0, 0])


def test_kl_cov_takes_the_largest_and_is_not_clipped(close):
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
