"""MC-GRPO: sample one extra rollout, take the group's median as baseline, drop a median rollout.

Paper: arXiv:2601.22582; lotusroot-kim/MC-GRPO da077455 (the MATH trainer)
Formula: A = (r - median_g) / (MAD_g + eps), and one rollout with r = median does not train
When: groups of two to four, where the mean is a noisy baseline
Cost: one extra rollout per prompt, not trained; two sorts of the rewards

The median is the lower one, also for an even number, so that a pivot exists; the pivot is the
first rollout that has it. MAD is the lower median of |r - median|, without the factor 1.4826.
With 0/1 rewards MAD is 0 whenever the group is odd: the minority then gets 1 / eps = 1000, a sign
update whose size only gradient clipping bounds; scale "none" or scale_floor avoid that. The
GSM8K trainer multiplies by rollouts / non-zero advantages: zero_compensation.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlnorm.groups import Groups, group_count, group_lower_median, group_min, group_std, group_sum
from rlnorm.inputs import Missing, scalar_rewards, zero_missing
from rlnorm.options import NonNegative, checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def mc_grpo(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    eps: NonNegative = 1e-3,
    scale: Literal["mad", "std", "none"] = "mad",
    scale_floor: NonNegative | None = None,
    zero_compensation: bool = False,
) -> Advantages:
    """Advantages, where the pivot of each group is not kept; groups of one give 0, also not kept.

    weights, missing: see grpo. scale: what to divide by, plus eps. scale_floor: where MAD is
    below it, the group's unbiased std is used instead. Raises ValueError on bad rewards or
    weights.
    """
    total, groups = scalar_rewards("mc_grpo", rewards, group_index, weights, missing)
    median, mad = median_and_mad(total, groups)
    centred = total - median[groups.index]
    if scale == "none":
        values = centred
    else:
        spread = group_std(total, groups, ddof=1) if scale == "std" else mad
        if scale_floor is not None and scale == "mad":
            spread = mad.where(mad >= scale_floor, group_std(total, groups, ddof=1))
        spread = spread + eps
        values = centred / spread.where(spread > 0, 1.0)[groups.index]
    if zero_compensation:
        active = group_sum((centred != 0).double().where(~centred.isnan(), torch.nan), groups)
        factor = group_count(total, groups) / active.clamp(min=1)
        values = values * factor[groups.index]
    return Advantages(zero_missing(values), ~total.isnan() & ~pivots(total, median, groups))


def median_and_mad(
    total: Float[Tensor, " n"], groups: Groups
) -> tuple[Float[Tensor, " g"], Float[Tensor, " g"]]:
    """Lower median of each group and lower median of the distances to it."""
    median = group_lower_median(total, groups)
    return median, group_lower_median((total - median[groups.index]).abs(), groups)


def pivots(
    total: Float[Tensor, " n"], median: Float[Tensor, " g"], groups: Groups
) -> Bool[Tensor, " n"]:
    """The first rollout of each group whose reward is the median."""
    rows = torch.arange(total.shape[0], dtype=torch.float64, device=total.device)
    candidates = rows.where(total == median[groups.index], torch.nan)
    return candidates == group_min(candidates, groups)[groups.index]
