"""GRPO: each rollout's reward against the mean and spread of its group.

Paper: DeepSeekMath, arXiv:2402.03300; DeepSeek-R1, arXiv:2501.12948
Formula: A = (r - mean_g) / (std_g + eps)
When: one verifiable reward and groups of four or more; the baseline of every comparison
Cost: one pass over the rewards, nothing else needed

The paper leaves open which standard deviation; every public implementation takes the unbiased
one, and so does this (ddof 1). ddof 0 makes it sqrt(G / (G - 1)) larger. Departures: statistics
are float64 and relative to the smallest reward, so equal rewards give exactly 0 (float32
implementations return up to 0.98 there), and a group of one gives 0, not its raw reward.
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from rlnorm.groups import Groups, group_centred, group_count, group_std, group_zscore, one_group
from rlnorm.inputs import Missing, group_relative, scalar_rewards
from rlnorm.options import Ddof, NonNegative, checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def grpo(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    eps: NonNegative = 1e-6,
    ddof: Ddof = 1,
    scale: Literal["group", "batch", "none"] = "group",
    singleton: Literal["zero", "reward"] = "zero",
) -> Advantages:
    """Advantage of each rollout; 0 in a constant group, for a group of one, for a NaN reward.

    weights: one per reward column, all 1 unless given. missing: see scalar_rewards. scale: what
    to divide by: the group's std, one std over the batch (the group mean stays), or nothing
    (Dr. GRPO). singleton: "reward" gives a group of one its reward over 1 + eps, as verl does.
    Raises ValueError on bad rewards or weights.
    """
    total, groups = scalar_rewards("grpo", rewards, group_index, weights, missing)
    if scale == "group":
        advantages = group_zscore(total, groups, eps=eps, ddof=ddof)
    else:
        advantages = group_centred(total, groups)
        if scale == "batch":
            spread = group_std(total, one_group(total), ddof=ddof) + eps
            advantages = advantages / spread.where(spread > 0, 1.0)
    if singleton == "reward":
        raw = total / (1 + eps) if scale == "group" else total
        advantages = keep_singletons(advantages, raw, groups)
    return group_relative(advantages, total, groups)


def keep_singletons(
    advantages: Float[Tensor, " n"], raw: Float[Tensor, " n"], groups: Groups
) -> Float[Tensor, " n"]:
    """The raw value for groups of one, the advantage elsewhere: what verl does."""
    return raw.where(group_count(raw, groups)[groups.index] == 1, advantages)
