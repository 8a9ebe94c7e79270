"""Entropy bonus, with a fixed coefficient or one that follows a target.

Paper: TRL 1.16 (adaptive controller)
Formula: adds -coef * mean_t H_t;  coef += delta while H <= target, else -= delta
When: exploration dies out
Cost: the entropy of every trained token, with gradient

The bonus is a token mean whatever the aggregate of the policy loss is. Adaptive: the coefficient
stays within its bounds, and applies only after a step whose entropy was at or below the target.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from rlnorm.options import NonNegative, checked


@checked()
def entropy(entropy: Float[Tensor, " t"], *, coef: NonNegative = 0.001) -> Float[Tensor, " t"]:
    """-coef times the entropy of each token."""
    return -coef * entropy


def _min_below_max(coef_min: float, coef_max: float) -> str:
    within = coef_min <= coef_max
    return "" if within else f"coef_max = {coef_max}, needs coef_min = {coef_min} or more"


@checked(_min_below_max)
def adaptive_entropy(
    entropy: Float[Tensor, " t"],
    entropy_coef: Float[Tensor, ""],
    *,
    target: NonNegative = 0.2,
    coef: NonNegative = 0.0,
    delta: NonNegative = 0.005,
    coef_min: NonNegative = 0.0,
    coef_max: NonNegative = 1.0,
) -> Float[Tensor, " t"]:
    """-entropy_coef times the entropy; the options are the controller's, `coef` its start."""
    return -entropy_coef * entropy


@dataclass(frozen=True, slots=True)
class EntropyController:
    """State between steps: the coefficient, and the entropy of the last step."""

    coef: float
    last_entropy: float = 0.0

    def applied(self, *, target: float) -> float:
        """The coefficient of the coming step."""
        return self.coef if self.last_entropy <= target else 0.0

    def updated(
        self, entropy: float, *, target: float, delta: float, coef_min: float, coef_max: float
    ) -> "EntropyController":
        """The controller after a step with this mean entropy."""
        moved = self.coef + (delta if entropy <= target else -delta)
        return EntropyController(min(max(moved, coef_min), coef_max), entropy)
