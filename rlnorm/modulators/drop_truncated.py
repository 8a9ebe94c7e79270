"""Overlong filtering: rollouts cut off by the token limit do not train.

Paper: DAPO, arXiv:2503.14476, section 3.4
Formula: keep = not truncated
When: a verdict on an unfinished answer says little
Cost: the truncated rollouts

They still took part in the group's statistics, which are computed before.
"""

from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from rlnorm.inputs import check_rows
from rlnorm.options import checked
from rlnorm.types import Advantages


@checked()
def drop_truncated(advantages: Advantages, truncated: Bool[Tensor, " n"]) -> Advantages:
    """The advantages, 0 and not kept where the rollout was truncated."""
    check_rows("drop_truncated", "truncated", truncated, advantages.keep.shape[0])
    values = advantages.values.where(advantages.aligned(~truncated), 0.0)
    return replace(advantages, values=values, keep=advantages.keep & ~truncated)
