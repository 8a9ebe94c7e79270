"""RLOO: each reward against the mean of the other rollouts of its group.

Paper: arXiv:2402.14740
Formula: A = n / (n - 1) * (r - mean_g)
When: an unbiased policy gradient matters more than a common scale
Cost: one pass over the rewards, nothing else needed

A group of one has no others and gives 0 (verl's loop version keeps the reward there, its
vectorised version gives 0).
"""

from collections.abc import Sequence

from rlnorm.groups import group_centred, group_count
from rlnorm.inputs import Missing, group_relative, scalar_rewards
from rlnorm.options import checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def rloo(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
) -> Advantages:
    """Leave-one-out advantage; 0 in a constant group, for a group of one, for a NaN reward.

    weights, missing: see grpo. Raises ValueError on bad rewards or weights.
    """
    total, groups = scalar_rewards("rloo", rewards, group_index, weights, missing)
    count = group_count(total, groups)
    factor = count / (count - 1).clamp(min=1)
    return group_relative(group_centred(total, groups) * factor[groups.index], total, groups)
