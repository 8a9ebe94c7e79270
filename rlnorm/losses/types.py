"""The return type of a loss that also reports which tokens its clipping affects."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """Loss of each token, and the flags behind the clip fractions in the metrics."""

    values: Float[Tensor, " t"]
    clipped: Bool[Tensor, " t"] | None = None
    """True where a bound on the ratio holds back the update."""
    clipped_low: Bool[Tensor, " t"] | None = None
    """True where the second bound does: dual clip, or the bound for negative advantages."""
