from math import exp, log

import pytest
import torch

from rlnorm.regularizers.lp_reg import lp_reg, select_lp_reg


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_lp_reg_replaces_the_loss_on_its_set(close):
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


def test_the_kl_of_lp_reg_is_an_option(close):
    logprobs = vector(-3.0).requires_grad_()
    old, proxy, advantages = vector(-3.0), vector(-1.0), vector(-4.0)
    selected = torch.tensor([True])
    term = lp_reg(logprobs, old, proxy, advantages, selected, coef=10.0, kind="k2")
    # -A rho = 4, d = 2: d^2 / 2 = 2 and its gradient is -d
    close(term.values.detach(), [4 + 10 * 2])
    close(torch.autograd.grad(term.values.sum(), logprobs)[0], [4 + 10 * -2])


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
