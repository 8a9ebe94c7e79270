from math import log

import pytest
import torch

from rlnorm.losses import LOSSES
from rlnorm.losses.ppo_ewma import ewma_update


def ewma(lp, prox, behaviour, advantages, **options):
    columns = [torch.tensor(c, dtype=torch.float64) for c in (prox, behaviour, advantages)]
    logprobs = torch.tensor(lp, dtype=torch.float64, requires_grad=True)
    values = LOSSES["ppo_ewma"](logprobs, *columns, **options).values
    return values.detach(), torch.autograd.grad(values.sum(), logprobs)[0]


def test_ppo_ewma_clips_against_one_policy_and_weighs_against_another(close):
    two, far = log(2.0), log(1000.0)
    values, gradient = ewma(
        [two, two, far], [0.0, 0.0, far], [0.0, 0.0, 0.0], [1.0, -1.0, 1.0], clip=0.5
    )
    # ratio 2 against a bound of 1.5; the weight 1000 is held at 100
    close(values, [-1.5, 2, -100])
    close(gradient, [0, 2, -100])


def test_ewma_is_debiased(close):
    average, weight = torch.tensor([1.0], dtype=torch.float64), 1.0
    average, weight = ewma_update(average, weight, torch.tensor([3.0]).double(), decay=0.5)
    # (0.5 * 1 * 1 + 3) / 1.5
    assert weight == 1.5
    close(average, [3.5 / 1.5])
    average, weight = ewma_update(average, weight, torch.tensor([0.0]).double(), decay=0.5)
    assert weight == 1.75
    close(average, [3.5 / 1.5 * 0.75 / 1.75])


def test_ppo_ewma_bounds():
    with pytest.raises(ValueError, match=r"clip = 1.0, needs a value in \(0, 1\)"):
        ewma([0.0], [0.0], [0.0], [1.0], clip=1.0)
    with pytest.raises(ValueError, match=r"decay = 1.0, needs a value in \[0, 1\)"):
        ewma_update(torch.zeros(1), 1.0, torch.zeros(1), decay=1.0)
