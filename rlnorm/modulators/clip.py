"""Bounds on the advantages.

Paper: none
Formula: A' = clip(A, low, high)
When: an estimator without a bound of its own, such as mc_grpo with its small MAD
Cost: none
"""

from jaxtyping import Float
from torch import Tensor


def clip(
    advantages: Float[Tensor, "..."], *, low: float = -10.0, high: float = 10.0
) -> Float[Tensor, "..."]:
    """Advantages in [low, high]. Raises ValueError unless low <= 0 <= high, so that 0 stays 0."""
    if not low <= 0.0 <= high:
        raise ValueError(f"clip: low, high = {low}, {high}: needs low <= 0 <= high")
    return advantages.clamp(low, high)
