"""REINFORCE with the group mean (or the batch mean, or nothing) as baseline, and no scaling.

Paper: Williams 1992; as a baseline for reasoning, arXiv:2503.20783 (Dr. GRPO)
Formula: A = r - mean_g
When: rewards on one known scale; unbiased up to (G - 1) / G, hard prompts are not inflated
Cost: one pass over the rewards, nothing else needed

The same as grpo with scale "none". With baseline "none" a constant group keeps its reward.
"""

from collections.abc import Sequence
from typing import Literal

from rlnorm.groups import group_centred, one_group
from rlnorm.inputs import Missing, group_relative, scalar_rewards
from rlnorm.options import checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def reinforce(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    baseline: Literal["group", "batch", "none"] = "group",
) -> Advantages:
    """Reward minus its baseline; a NaN reward gives 0, as does a group of one under "group".

    weights, missing: see grpo. Raises ValueError on bad rewards or weights.
    """
    total, groups = scalar_rewards("reinforce", rewards, group_index, weights, missing)
    scope = groups if baseline == "group" else one_group(total)
    values = total if baseline == "none" else group_centred(total, scope)
    return group_relative(values, total, groups)
