"""Off-policy sequence mask: wrong rollouts the policy has moved away from do not train.

Paper: DeepSeek-V3.2, as in TRL 1.16
Formula: l = 0 where A < 0 and mean_t(sampler - lp) > threshold
When: stale or mismatched rollouts
Cost: logprobs of the sampler; complete rollouts in a microbatch
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.options import checked
from rlnorm.regularizers.types import Replacement
from rlnorm.tokens import rollout_mean


@checked()
def opsm(
    logprobs: Float[Tensor, " t"],
    sampler_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    threshold: float,
) -> Replacement:
    """No loss on negative tokens of a rollout whose mean log-ratio is above the threshold."""
    drift = rollout_mean(sampler_logprobs - logprobs.detach(), rollout_index)[rollout_index]
    return Replacement(torch.zeros_like(logprobs), (advantages < 0) & (drift > threshold))
