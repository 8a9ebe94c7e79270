"""SAPO: a smooth gate in place of the hard clip.

Paper: arXiv:2511.20347
Formula: l = -A * sigmoid(tau * (rho - 1)) * 4 / tau,  tau = tau_pos for A > 0, else tau_neg
When: hard clipping throws away too many tokens
Cost: logprobs of the policy before the step
"""

from jaxtyping import Float
from torch import Tensor

from rlnorm.losses.surrogate import log_ratio
from rlnorm.losses.types import TokenLoss
from rlnorm.options import Bound, Positive, checked


@checked()
def sapo(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    tau_pos: Positive = 1.0,
    tau_neg: Positive = 1.05,
    max_log_ratio: Bound | None = 20.0,
) -> TokenLoss:
    """Loss of each token. Raises ValueError unless both temperatures are positive."""
    ratio = log_ratio(logprobs, old_logprobs, max_log_ratio).exp()
    tau = advantages.new_full(advantages.shape, tau_neg).masked_fill(advantages > 0, tau_pos)
    return TokenLoss(-(tau * (ratio - 1)).sigmoid() * (4 / tau) * advantages)
