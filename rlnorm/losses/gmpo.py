"""GMPO: the geometric mean of clipped token ratios times the rollout's advantage.

Paper: arXiv:2507.20673
Formula: l = -A exp(mean_t s_t),
    s_t = lp - old clipped to [-clip_low, clip_high] on the side A pushes to
When: outlier token ratios unsettle the update
Cost: logprobs of the policy before the step; complete rollouts in a microbatch

Clip widths are of the log-ratio (0.4: ratios from 0.67 to 1.49). Goes with the aggregate
seq-mean-token-mean. verl divides by all rows, fully masked ones included; here rollouts without
a trained token count nowhere.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.losses.surrogate import Width
from rlnorm.losses.types import TokenLoss
from rlnorm.options import NonNegative, checked
from rlnorm.tokens import rollout_mean


@checked()
def gmpo(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    clip_low: Width = 0.4,
    clip_high: Width = 0.4,
    eps: NonNegative = 1e-8,
) -> TokenLoss:
    """Loss of each token: that of its rollout, with the mean of its tokens' advantages.

    eps: added to token counts, as verl does. Raises ValueError for a negative clip width.
    """
    difference = logprobs - old_logprobs
    bounded = difference.clamp(-clip_low, clip_high)
    sign = advantages.sign()
    signed = sign * torch.minimum(sign * difference, sign * bounded)
    ratio = rollout_mean(signed, rollout_index, eps=eps).exp()
    advantage = rollout_mean(advantages, rollout_index, eps=eps)
    clipped = difference != bounded
    return TokenLoss(
        (-advantage * ratio)[rollout_index], clipped & (advantages > 0), clipped & (advantages < 0)
    )
