"""REINFORCE with the group mean (or the batch mean, or nothing) as baseline, and no scaling.

Paper: Williams 1992; as a baseline for reasoning, arXiv:2503.20783 (Dr. GRPO)
Formula: A = r - mean_g
When: rewards on one known scale; unbiased up to (G - 1) / G, hard prompts are not blown up
Cost: one pass over the rewards, nothing else needed

The same as grpo with scale "none". With baseline "none" a constant group keeps its reward.
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.advantages.inputs import Missing, scalar_rewards, zero_missing
from rlnorm.groups import group_centred, one_group


def reinforce(
    rewards: Float[Tensor, "n r"],
    group_index: Int[Tensor, " n"],
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    baseline: Literal["group", "batch", "none"] = "group",
) -> Float[Tensor, " n"]:
    """Reward less its baseline; a NaN reward gives 0, as does a group of one under "group".

    weights, missing: see grpo. Raises ValueError on bad rewards or weights.
    """
    total, groups = scalar_rewards("reinforce", rewards, group_index, weights, missing)
    if baseline == "none":
        return zero_missing(total)
    scope = groups if baseline == "group" else one_group(total)
    return zero_missing(group_centred(total, scope))
