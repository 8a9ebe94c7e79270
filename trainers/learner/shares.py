"""Messages between the driver and the DeepSpeed ranks."""

from collections.abc import Mapping
from dataclasses import dataclass

from rlnorm.types import TokenBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class RankShare:
    """One rank's share of a step's batch."""

    batch: TokenBatch | None
    """Its rollouts; None when there are fewer rollouts than ranks."""
    filler: TokenBatch
    """A short rollout for additional microbatches, whose gradient is 0."""
    microbatches: int
    """Number of microbatches; the same on every rank, as collectives of ZeRO 2 and 3 require."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankResult:
    """One rank's result of a step."""

    loss: float
    """Sum over its microbatches; the loss is the sum over ranks."""
    metrics: Mapping[str, float]
    grad_norm: float
    skipped: bool
