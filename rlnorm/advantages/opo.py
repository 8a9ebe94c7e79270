"""OPO: the group's length-weighted mean as baseline.

Paper: arXiv:2505.23585
Formula: A = r - sum(len * r) / sum(len)
When: lengths differ much within a group; the minimum-variance baseline if tokens are alike
Cost: one pass over the rewards and lengths
"""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from rlnorm.groups import group_centred
from rlnorm.inputs import Missing, check_rows, group_relative, scalar_rewards
from rlnorm.options import checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def opo(
    rewards: Rewards,
    group_index: GroupIndex,
    lengths: Int[Tensor, " n"],
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
) -> Advantages:
    """Advantage of each rollout; 0 in a constant group, for a group of one, for a NaN reward.

    lengths: trained tokens; a group without any gets the plain mean as baseline. weights,
    missing: see grpo. Raises ValueError on bad rewards, weights or a negative length.
    """
    total, groups = scalar_rewards("opo", rewards, group_index, weights, missing)
    check_rows("opo", "lengths", lengths, total.shape[0])
    if (lengths < 0).any():
        raise ValueError(f"opo: lengths has {int(lengths.min())}, needs 0 or more")
    values = group_centred(total, groups, weights=lengths.double())
    return group_relative(values, total, groups)
