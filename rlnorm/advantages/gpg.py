"""GPG: the group-mean baseline, scaled up when few rollouts have a non-zero reward.

Paper: arXiv:2504.02546, as in verl 0.9.1
Formula: A = alpha * (r - mean_g) / f_norm,  alpha = rollouts / max(1, rollouts with r != 0)
When: to reproduce GPG; goes with the loss "reinforce"
Cost: one pass over the rewards, nothing else needed

alpha depends on the full batch and changes with an offset of the rewards: 0 must mean failure.
Rollouts without a reward count in neither number.
"""

from collections.abc import Sequence

from rlnorm.groups import group_centred
from rlnorm.inputs import Missing, group_relative, scalar_rewards
from rlnorm.options import Positive, checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def gpg(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    f_norm: Positive = 1.0,
) -> Advantages:
    """Advantage of each rollout; 0 in a constant group, for a group of one, for a NaN reward.

    weights, missing: see grpo. f_norm: divides everything. Raises ValueError on bad rewards or
    weights.
    """
    total, groups = scalar_rewards("gpg", rewards, group_index, weights, missing)
    present = (~total.isnan()).double().sum()
    rewarded = (total.nan_to_num(0.0) != 0).sum().clamp(min=1)
    alpha = present / rewarded
    return group_relative(group_centred(total, groups) * alpha / f_norm, total, groups)
