from math import exp, log

import pytest
import torch

from rlnorm.modulators.ace import ace, confidence_shift
from rlnorm.types import Advantages

INDEX = torch.tensor([0, 0, 1, 2, 2])


# old - ref: 1 2 | -1 | 0.5 0.5
OLD = torch.tensor([-1.0, -1.0, -2.0, -1.0, -1.0], dtype=torch.float64)


REF = torch.tensor([-2.0, -3.0, -1.0, -1.5, -1.5], dtype=torch.float64)


EVERY = torch.tensor([True, True, True])


BASE = Advantages(torch.tensor([-1.0, -2.0, 3.0], dtype=torch.float64), EVERY)


def softplus(x):
    return log(1 + exp(x))


def test_errors_weigh_more_the_surer_the_policy_is(close):
    got = ace(BASE, INDEX, OLD, REF, alpha=0.5)
    close(got, [-(1 + 0.5 * softplus(3)), -2 * (1 + 0.5 * softplus(-1)), 3])
    close(confidence_shift(INDEX, OLD, REF, 4), [3, -1, 1, 0])


def test_its_options(close):
    close(ace(BASE, INDEX, OLD, REF, alpha=0.0), [-1, -2, 3])
    close(ace(BASE, INDEX, OLD, REF, modulation="relu"), [-4, -2, 3])
    close(ace(BASE, INDEX, OLD, REF, modulation="relu", cap=2.5), [-2.5, -2, 3])
    mean = ace(BASE, INDEX, OLD, REF, modulation="relu", length_normalise=True)
    close(mean, [-2.5, -2, 3])
    with pytest.raises(ValueError, match=r"alpha = -1\.0, needs 0 or more"):
        ace(BASE, INDEX, OLD, REF, alpha=-1.0)
    with pytest.raises(ValueError, match=r"cap = 0\.5, needs 1 or more"):
        ace(BASE, INDEX, OLD, REF, cap=0.5)


def test_turn_and_token_advantages_take_their_rollouts_multiplier(close):
    turns = torch.tensor([[-1.0, 1.0], [0.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    got = ace(Advantages(turns, EVERY), INDEX, OLD, REF, modulation="relu")
    close(got, [[-4, 1], [0, -1], [1, 1]])
    tokens = torch.tensor([-1.0, 1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    got = ace(Advantages(tokens, EVERY, INDEX), INDEX, OLD, REF, modulation="relu")
    close(got, [-4, 1, -1, -2, 1])
