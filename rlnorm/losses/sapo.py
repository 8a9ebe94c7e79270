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


def sapo(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    tau_pos: float = 1.0,
    tau_neg: float = 1.05,
    max_log_ratio: float | None = 20.0,
) -> TokenLoss:
    """Loss of each token. Raises ValueError unless both temperatures are positive."""
    if not (tau_pos > 0 and tau_neg > 0):
        raise ValueError(f"sapo: tau_pos, tau_neg = {tau_pos}, {tau_neg}: need more than 0")
    ratio = log_ratio(logprobs, old_logprobs, max_log_ratio).exp()
    tau = advantages.new_full(advantages.shape, tau_neg).masked_fill(advantages > 0, tau_pos)
    return TokenLoss(-(tau * (ratio - 1)).sigmoid() * (4 / tau) * advantages)
