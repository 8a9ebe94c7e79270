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
from rlnorm.options import Bound, checked


def _cap_over_floor(is_cap: float, is_floor: float) -> str:
    return "" if is_floor <= is_cap else f"is_cap = {is_cap}, needs is_floor = {is_floor} or more"


@checked(_cap_over_floor)
def cispo(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    is_cap: Bound = 5.0,
    is_floor: float = 0.0,
    max_log_ratio: Bound | None = 20.0,
) -> TokenLoss:
    """Loss of each token. Raises ValueError unless is_floor <= is_cap and is_cap > 0.

    is_floor: 0 or less is no floor, since no ratio is negative.
    """
    ratio = log_ratio(logprobs, old_logprobs, max_log_ratio).detach().exp()
    weight = ratio.clamp(is_floor, is_cap)
    return TokenLoss(-weight * advantages * logprobs, ratio != weight)
