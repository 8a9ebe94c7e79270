"""GSPO: one ratio per rollout, the geometric mean of its token ratios.

Paper: arXiv:2507.18071
Formula: l = max(-A s, -A clip(s, 1 - clip_low, 1 + clip_high)),  s = exp(mean_t(lp - old))
When: long rollouts, mixture-of-experts policies, noisy token ratios
Cost: logprobs of the policy before the step; complete rollouts in a microbatch

Clip widths are those of a mean, hence tiny. gspo_token lets the gradient flow through each
token's own logprob, which allows one advantage per token; with one advantage per rollout and a
mean over its tokens the two have the same value and gradient. verl's gspo is gspo_token.
"""

from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.losses.surrogate import Width, clipped_surrogate
from rlnorm.losses.types import TokenLoss
from rlnorm.options import Bound, checked
from rlnorm.tokens import rollout_mean


@checked()
def gspo(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    clip_low: Width | None = 3e-4,
    clip_high: Width | None = 4e-4,
    ratio_cap: Bound | None = None,
    max_log_ratio: Bound | None = 10.0,
) -> TokenLoss:
    """Loss of each token: that of its rollout. max_log_ratio: upper bound of log s.

    Raises ValueError for a negative clip width.
    """
    mean = rollout_mean(logprobs - old_logprobs, rollout_index)
    if max_log_ratio is not None:
        mean = mean.clamp(max=max_log_ratio)
    ratio = mean.exp()[rollout_index]
    return clipped_surrogate(
        ratio, advantages, clip_low=clip_low, clip_high=clip_high, ratio_cap=ratio_cap
    )


@checked()
def gspo_token(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    clip_low: Width | None = 3e-4,
    clip_high: Width | None = 4e-4,
    max_log_ratio: Bound | None = 10.0,
) -> TokenLoss:
    """Loss of each token with the rollout's ratio as value and the token's own gradient.

    Raises ValueError for a negative clip width.
    """
    mean = rollout_mean((logprobs - old_logprobs).detach(), rollout_index)
    log_s = logprobs - logprobs.detach() + mean[rollout_index]
    if max_log_ratio is not None:
        log_s = log_s.clamp(max=max_log_ratio)
    return clipped_surrogate(log_s.exp(), advantages, clip_low=clip_low, clip_high=clip_high)
