"""Learning rates, weight decay and the averaged policy, by hand."""

import pytest
import torch

from rlnorm.trainers.config.schema import LearnerConfig
from rlnorm.trainers.learner.optimizer import (
    PROXIMAL_DECAY,
    average_into,
    build_optimizer,
    lr_schedule,
)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        # (1 + cos(pi k / 4)) / 2
        ("cosine", [0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_learning_rates_of_six_steps_two_of_them_warm_up(schedule, rates):
    lr = lr_schedule(LearnerConfig(lr=1e-3, schedule=schedule, warmup_steps=2), 6)
    assert [lr(step) for step in range(6)] == pytest.approx([1e-3 * rate for rate in rates])


def test_a_warm_up_longer_than_the_run_never_decays():
    lr = lr_schedule(LearnerConfig(lr=1.0, schedule="cosine", warmup_steps=8), 4)
    assert [lr(step) for step in range(4)] == [1 / 8, 2 / 8, 3 / 8, 4 / 8]


def test_weight_decay_moves_trained_matrices_only():
    model = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.LayerNorm(2)])
    frozen = torch.nn.Linear(2, 2).requires_grad_(False)
    model.append(frozen)
    optimizer = build_optimizer(model, LearnerConfig(lr=0.1, weight_decay=0.5))
    before = {name: p.clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        # decoupled: times 1 - lr * decay
        factor = 0.95 if name == "0.weight" else 1.0
        torch.testing.assert_close(parameter, before[name] * factor)


def test_the_averaged_policy_weighs_each_older_step_by_the_decay():
    b, slow, weight = PROXIMAL_DECAY, torch.tensor([4.0]), 1.0
    for new in (1.0, 2.0):
        weight = average_into([slow], [torch.tensor([new])], weight)
    total = b * b + b + 1
    assert weight == pytest.approx(total)
    assert slow.item() == pytest.approx((4 * b * b + 1 * b + 2) / total)
