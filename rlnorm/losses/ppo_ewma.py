"""PPO-EWMA, decoupled: clip against an averaged policy, weight against the one that sampled.

Paper: arXiv:2110.00641; openai/ppo-ewma 625dac7a
Formula: l = max(-A exp(lp - beh), -A exp(d + prox - beh)),
    d = clip(lp - prox, log(1 - clip), log(1 + clip))
When: stale data, many updates per batch, small batches
Cost: a copy of the parameters and a forward pass of it

beh is raised to lp - log(ratio_max), held constant. The average is debiased: theta_e <- (b W /
(b W + 1)) theta_e + theta / (b W + 1), W <- b W + 1, W from 1.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.losses.types import TokenLoss
from rlnorm.options import Positive, checked


def _clip_below_one(clip: float) -> str:
    return "" if 0 < clip < 1 else f"clip = {clip}, needs a value in (0, 1)"


@checked(_clip_below_one)
def ppo_ewma(
    logprobs: Float[Tensor, " t"],
    proximal_logprobs: Float[Tensor, " t"],
    sampler_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    clip: float = 0.2,
    ratio_max: Positive = 100.0,
) -> TokenLoss:
    """Loss of each token. Raises ValueError unless clip is in (0, 1) and ratio_max is above 0."""
    behaviour = torch.maximum(sampler_logprobs, logprobs.detach() - math.log(ratio_max))
    bounded = (logprobs - proximal_logprobs).clamp(math.log(1 - clip), math.log(1 + clip))
    plain = -advantages * (logprobs - behaviour).exp()
    held = -advantages * (bounded + proximal_logprobs - behaviour).exp()
    return TokenLoss(torch.maximum(plain, held), held > plain)


def ewma_update(
    average: Tensor, total_weight: float, current: Tensor, *, decay: float
) -> tuple[Tensor, float]:
    """The next average and its total weight; one call per optimizer step and parameter.

    Raises ValueError for a decay outside [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"ewma_update: decay = {decay}, needs a value in [0, 1)")
    weight = decay * total_weight + 1
    return average * (decay * total_weight / weight) + current / weight, weight
