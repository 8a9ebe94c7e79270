import pytest
import torch

from rlnorm.regularizers.entropy import EntropyController, adaptive_entropy, entropy


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_entropy_is_a_bonus(close):
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
