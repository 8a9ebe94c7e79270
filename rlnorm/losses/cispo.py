"""CISPO: the importance weight is clipped and held constant; every token keeps its gradient.

Paper: MiniMax-M1, arXiv:2506.13585; ScaleRL uses is_cap 5
Formula: l = -sg(clip(rho, is_floor, is_cap)) * A * lp
When: rare tokens must not lose their gradient to clipping
Cost: logprobs of the policy before the step

Bounds are on the weight itself, not widths around 1: verl's clip_high h is is_cap 1 + h, TRL's
epsilon_high is is_cap.
"""

from jaxtyping import Float
from torch import Tensor

from rlnorm.losses.surrogate import log_ratio
from rlnorm.losses.types import TokenLoss


def cispo(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    is_cap: float = 5.0,
    is_floor: float = 0.0,
    max_log_ratio: float | None = 20.0,
) -> TokenLoss:
    """Loss of each token. Raises ValueError unless is_floor <= is_cap and is_cap > 0."""
    if not (is_cap > 0 and is_floor <= is_cap):
        raise ValueError(
            f"cispo: is_cap = {is_cap}, is_floor = {is_floor}: needs is_cap > 0 and not below it"
        )
    ratio = log_ratio(logprobs, old_logprobs, max_log_ratio).detach().exp()
    weight = ratio.clamp(is_floor, is_cap)
    return TokenLoss(-weight * advantages * logprobs, ratio != weight)
