"""VESPO: the rollout's importance weight shaped by a gamma curve, as a constant.

Paper: VESPO, as in TRL 1.16
Formula: l = -phi(w) * A * lp,  phi(w) = exp(lam) w^k exp(-lam w),  w = exp(sum_t(lp - old))
When: strongly off-policy data
Cost: logprobs of the policy before the step; complete rollouts in a microbatch
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.losses.types import TokenLoss
from rlnorm.options import NonNegative, checked
from rlnorm.tokens import rollout_sum

LOWEST_LOG_WEIGHT, HIGHEST_LOG_WEIGHT = math.log(1e-8), 20.0


@checked()
def vespo(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    k_pos: NonNegative = 2.0,
    lambda_pos: NonNegative = 3.0,
    k_neg: NonNegative = 3.0,
    lambda_neg: NonNegative = 2.0,
) -> TokenLoss:
    """Loss of each token; k and lambda by the sign of its advantage, 0 counts as positive."""
    difference = (logprobs - old_logprobs).detach().clamp(-20.0, 20.0)
    log_weight = rollout_sum(difference, rollout_index)
    log_weight = log_weight.clamp(LOWEST_LOG_WEIGHT, HIGHEST_LOG_WEIGHT)[rollout_index]
    positive = advantages >= 0
    k = torch.full_like(advantages, k_neg).masked_fill(positive, k_pos)
    lam = torch.full_like(advantages, lambda_neg).masked_fill(positive, lambda_pos).clamp(min=1e-4)
    phi = (lam + k * log_weight - lam * log_weight.exp()).exp()
    return TokenLoss(-phi * advantages * logprobs)
