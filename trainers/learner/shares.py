"""What the driver and a DeepSpeed rank say to each other."""

from collections.abc import Mapping
from dataclasses import dataclass

from rlnorm.types import TokenBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class RankShare:
    """What one rank gets of a step."""

    batch: TokenBatch | None
    """Its rollouts; None when there are fewer rollouts than ranks."""
    filler: TokenBatch
    """A short rollout that fills microbatches up with gradient 0."""
    microbatches: int
    """How many every rank runs, so that the collectives of ZeRO 2 and 3 pair up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankResult:
    """One rank's part of a step."""

    loss: float
    """Sum of its parts; the ranks' sums add up to the loss."""
    metrics: Mapping[str, float]
    grad_norm: float
    skipped: bool
