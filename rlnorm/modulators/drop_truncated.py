"""Overlong filtering: rollouts cut off by the token limit do not train.

Paper: DAPO, arXiv:2503.14476, section 3.4
Formula: keep = not truncated
When: a verdict on an unfinished answer says little
Cost: the truncated rollouts

They still took part in the group's statistics, which were formed before.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.advantages.inputs import check_rows
from rlnorm.advantages.types import Advantages


def drop_truncated(
    advantages: Float[Tensor, "..."],
    truncated: Bool[Tensor, " n"],
    advantage_index: Int[Tensor, " t"] | None = None,
) -> Advantages:
    """The advantages, 0 and not kept where the rollout was truncated."""
    dropped = truncated if advantage_index is None else truncated[advantage_index]
    check_rows("drop_truncated", "truncated", dropped, advantages.shape[0])
    shaped = dropped.reshape(-1, *([1] * (advantages.dim() - 1)))
    return Advantages(advantages.where(~shaped, 0.0), ~truncated)
