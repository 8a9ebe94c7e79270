"""80/20: only the most uncertain tokens train.

Paper: arXiv:2506.01939
Formula: l = 0 where H_t is below the (1 - share) quantile of the step
When: long reasoning, where a few forking tokens decide
Cost: the entropy of every token from the scoring pass

The tokens left out still count in the denominators, as in TRL. The quantile is over the entire
optimizer step.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlnorm.options import SomeShare, checked
from rlnorm.regularizers.types import Replacement


@checked()
def top_entropy(logprobs: Float[Tensor, " t"], selected: Bool[Tensor, " t"]) -> Replacement:
    """No loss on the tokens that are not selected."""
    return Replacement(torch.zeros_like(logprobs), ~selected)


@checked()
def select_top_entropy(
    entropy: Float[Tensor, " t"], *, share: SomeShare = 0.2
) -> Bool[Tensor, " t"]:
    """Tokens at or above the interpolated quantile. Raises ValueError unless share is in (0, 1]."""
    ranked = entropy.detach().double().sort().values
    place = (1 - share) * (ranked.numel() - 1)
    below = int(place)
    above = min(below + 1, ranked.numel() - 1)
    quantile = ranked[below] + (place - below) * (ranked[above] - ranked[below])
    return entropy.detach().double() >= quantile
