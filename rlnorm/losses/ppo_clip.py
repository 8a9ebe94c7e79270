"""PPO's clipped surrogate per token: GRPO, DAPO (clip-higher) and Dr. GRPO use it.

Paper: PPO arXiv:1707.06347; dual clip arXiv:1912.09729; clip-higher (DAPO) arXiv:2503.14476
Formula: l = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)),  rho = exp(lp - old)
When: the default
Cost: logprobs of the policy before the step

dual_clip bounds the loss of a negative advantage by -A * dual_clip (verl: 3). ratio_cap bounds
the ratio in the unclipped branch (TRL's delta). Without any bound this is the plain
importance-weighted policy gradient.
"""

from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from rlnorm.losses.surrogate import Width, clipped_surrogate, log_ratio
from rlnorm.losses.types import TokenLoss
from rlnorm.options import Bound, Within, checked


@checked()
def ppo_clip(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    clip_low: Width | None = 0.2,
    clip_high: Width | None = 0.2,
    dual_clip: Annotated[float, Within(1, above=True)] | None = None,
    ratio_cap: Bound | None = None,
    max_log_ratio: Bound | None = 20.0,
) -> TokenLoss:
    """Loss of each token. max_log_ratio: lp - old is clamped to it, without gradient beyond.

    Raises ValueError for a negative clip width or a dual_clip of 1 or less.
    """
    ratio = log_ratio(logprobs, old_logprobs, max_log_ratio).exp()
    return clipped_surrogate(
        ratio,
        advantages,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        ratio_cap=ratio_cap,
    )
