"""REINFORCE: the plain policy gradient, without a ratio.

Paper: Williams 1992
Formula: l = -A * lp
When: strictly on-policy, one update per batch; the loss of GPG
Cost: none
"""

from jaxtyping import Float
from torch import Tensor

from rlnorm.losses.types import TokenLoss
from rlnorm.options import checked


@checked()
def reinforce(logprobs: Float[Tensor, " t"], advantages: Float[Tensor, " t"]) -> TokenLoss:
    """Loss of each token."""
    return TokenLoss(-advantages * logprobs)
