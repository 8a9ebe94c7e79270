"""The exact bias and variance of an estimator's policy gradient, on a tabular bandit.

A softmax policy over four actions with known rewards; every joint outcome of a group is
enumerated and weighted by its probability, so nothing is sampled. An estimator coupled over the
batch sees all outcomes as one batch.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rlnorm.testing.batches import Batch

LOGITS = (0.0, 0.5, -0.5, 0.2)
VALUES = (1.0, 0.625, 0.25, 0.0)


@dataclass(frozen=True, slots=True)
class GradientReport:
    """The expected gradient compared with the true one."""

    cosine: float
    """Between the expected and the true gradient."""
    relative_bias: float
    """Norm of their difference over the norm of the true gradient."""
    variance: float
    """Trace of the covariance of the gradient of one group."""


def bandit_gradient(
    estimate: Callable[[Batch], list[Tensor]], group_size: int, low: float, high: float
) -> GradientReport:
    """Enumerate all groups of group_size samples; rewards are spread over [low, high]."""
    policy = torch.tensor(LOGITS, dtype=torch.float64).softmax(0)
    values = low + (high - low) * torch.tensor(VALUES, dtype=torch.float64)
    outcomes = torch.tensor(list(itertools.product(range(len(LOGITS)), repeat=group_size)))
    actions = outcomes.reshape(-1)
    rewards = values[actions]
    batch = Batch(
        rewards=rewards[:, None],
        group_index=torch.arange(len(outcomes)).repeat_interleave(group_size),
        turn_rewards=rewards[:, None],
        greedy_rewards=values[policy.argmax()].expand(len(actions)).clone(),
        lengths=torch.ones(len(actions), dtype=torch.long),
        logprob=policy.log()[actions],
    )
    advantages = torch.stack([row.reshape(-1)[0] for row in estimate(batch)])
    scores = torch.eye(len(LOGITS), dtype=torch.float64)[actions] - policy
    gradients = (advantages[:, None] * scores).reshape(len(outcomes), group_size, -1).mean(dim=1)
    weights = policy[outcomes].prod(dim=1)
    expected = weights @ gradients
    true = policy * (values - policy @ values)
    spread = (weights[:, None] * (gradients - expected).square()).sum()
    return GradientReport(
        cosine=float(torch.cosine_similarity(expected, true, dim=0)),
        relative_bias=float((expected - true).norm() / true.norm()),
        variance=float(spread),
    )
