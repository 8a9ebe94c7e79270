"""Bounds on the advantages.

Paper: none
Formula: A' = clip(A, low, high)
When: an estimator without a bound of its own, such as mc_grpo with its small MAD
Cost: none
"""

from dataclasses import replace

from rlnorm.options import checked
from rlnorm.types import Advantages


def _around_zero(low: float, high: float) -> str:
    within = low <= 0.0 <= high
    return "" if within else f"low, high = {low}, {high}: needs low <= 0 <= high"


@checked(_around_zero)
def clip(advantages: Advantages, *, low: float = -10.0, high: float = 10.0) -> Advantages:
    """Advantages in [low, high]. Raises ValueError unless low <= 0 <= high, so that 0 stays 0."""
    return replace(advantages, values=advantages.values.clamp(low, high))
