from math import exp

import pytest
import torch

INDEX = torch.tensor([0, 0, 1, 1])


def test_sapo_gates_by_sign(run, close):
    values, gradient, _ = run(
        "sapo", [1.0, 3.0, 3.0], [1.0, 1.0, -1.0], INDEX[:3], tau_pos=2.0, tau_neg=4.0
    )
    high, low = 1 / (1 + exp(-4.0)), 1 / (1 + exp(-8.0))
    close(values, [-1, -2 * high, low])
    # d sigmoid = s (1 - s); times tau * 4 / tau * rho
    close(gradient, [-1, -12 * high * (1 - high), 12 * low * (1 - low)])


def test_sapo_bounds(run):
    with pytest.raises(ValueError, match=r"tau_neg = 0.0, needs more than 0"):
        run("sapo", [1.0], [1.0], INDEX[:1], tau_neg=0.0)
