"""Rollouts that share prefixes, and the batch they make."""

from collections.abc import Callable

import pytest
import torch

from rlnorm.types import LossDenominators, TokenBatch

# two prompts, shared beginnings, a repeated rollout, one that is the beginning of another
ROLLOUTS = (
    (5, 7, 8, 9, 1, 2, 3),
    (5, 7, 8, 4),
    (6, 7, 8, 9, 1, 2),
    (5, 7, 8, 9, 1, 2, 3),
    (5, 7, 2, 9, 1, 2, 3, 4, 4),
    (6, 7, 8),
)


@pytest.fixture
def rollouts() -> tuple[tuple[int, ...], ...]:
    return ROLLOUTS


@pytest.fixture
def batch_of() -> Callable[..., TokenBatch]:
    """All tokens but the first of a rollout are trained."""

    def batch_of(rollouts: tuple[tuple[int, ...], ...]) -> TokenBatch:
        n = torch.tensor([len(r) for r in rollouts])
        t = int(n.sum())
        cu = torch.cat([n.new_zeros(1), n.cumsum(0)])
        index = torch.repeat_interleave(torch.arange(len(rollouts)), n)
        positions = torch.arange(t) - cu[index]
        return TokenBatch(
            token_ids=torch.tensor([x for r in rollouts for x in r]),
            positions=positions,
            rollout_index=index,
            cu_seqlens=cu,
            loss_mask=positions > 0,
            columns={},
            temperature=1.0,
            denominators=LossDenominators(tokens=t, rollouts=len(rollouts), horizon=8),
        )

    return batch_of
