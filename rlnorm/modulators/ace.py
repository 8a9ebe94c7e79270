"""ACE: a wrong rollout weighs more the more confident the policy has become in it.

Paper: arXiv:2602.21420 v1; no official code
Formula: A' = A * (1 + alpha * softplus(c)) where A < 0,  c = sum_t (old - ref)
When: the policy grows sure of wrong answers and pass@k falls
Cost: a forward pass of the reference policy

c is the log-ratio of the rollout, not its mean, as the abstract writes it, and constant for
the gradient. The value of alpha is not given (a secondary source says 0.5 to 2). Runs after the
estimator, with no whitening after it. At c = 0 errors already weigh 1 + 0.693 alpha; c is a sum
over all tokens, so the multiplier can reach tens: cap and length_normalise bound it.
"""

from dataclasses import replace
from typing import Annotated, Literal

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import relu, softplus

from rlnorm.inputs import check_tokens
from rlnorm.options import NonNegative, Within, checked
from rlnorm.tokens import rollout_mean, rollout_sum
from rlnorm.types import Advantages


@checked()
def ace(
    advantages: Advantages,
    rollout_index: Int[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    ref_logprobs: Float[Tensor, " t"],
    *,
    alpha: NonNegative = 1.0,
    modulation: Literal["softplus", "relu"] = "softplus",
    cap: Annotated[float, Within(1, infinite=True)] | None = None,
    length_normalise: bool = False,
) -> Advantages:
    """Advantages with the negative ones scaled by the multiplier of their rollout.

    alpha: strength, 0 turns it off. modulation: "relu" is the paper's ablation. cap: largest
    multiplier. length_normalise: c is the mean over tokens. Raises ValueError for a negative
    alpha or a cap below 1.
    """
    n = advantages.keep.shape[0]
    check_tokens("ace", n, rollout_index, old_logprobs=old_logprobs, ref_logprobs=ref_logprobs)
    shift = confidence_shift(
        rollout_index, old_logprobs, ref_logprobs, n, length_normalise=length_normalise
    )
    multiplier = 1 + alpha * (softplus(shift) if modulation == "softplus" else relu(shift))
    if cap is not None:
        multiplier = multiplier.clamp(max=cap)
    values = advantages.values
    scaled = values * advantages.aligned(multiplier)
    return replace(advantages, values=scaled.where(values < 0, values))


def confidence_shift(
    rollout_index: Int[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    ref_logprobs: Float[Tensor, " t"],
    n: int,
    *,
    length_normalise: bool = False,
) -> Float[Tensor, " n"]:
    """Log-ratio of policy to reference of each rollout; 0 for one without trained tokens."""
    log_ratio = old_logprobs.double() - ref_logprobs.double()
    reduce = rollout_mean if length_normalise else rollout_sum
    return reduce(log_ratio, rollout_index, n)
