"""What an estimator may return when the values alone do not say enough."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Advantages:
    """Advantages and the rollouts that train; a rollout not kept has advantage 0."""

    values: Float[Tensor, "..."]
    """[n] per rollout, [n u] per turn or [t] per trained token; float64, never NaN."""
    keep: Bool[Tensor, " n"]
    """False where a rollout takes no part in the loss and in none of its denominators."""
