"""Pass@k advantage: only the best rollout of a group, by how much it beats the second best.

Paper: arXiv:2503.19595, as in verl 0.9.1
Formula: A = (r_max - r_second) / (std_g + eps) for the best rollout, 0 for the others
When: the goal is that one of k samples is right
Cost: one sort of the rewards

Not the combinatorial Pass@k-training estimator (Chen et al. 2025), which is another formula.
Ties at the top give 0, and so does a group of one (verl raises there).
"""

from collections.abc import Sequence

import torch

from rlnorm.groups import group_count, group_order, group_std
from rlnorm.inputs import Missing, group_relative, scalar_rewards
from rlnorm.options import Ddof, NonNegative, checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def pass_at_k(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    norm_by_std: bool = True,
    eps: NonNegative = 1e-6,
    ddof: Ddof = 1,
) -> Advantages:
    """Advantage of each rollout, 0 for all but the best of its group.

    weights, missing: see grpo. norm_by_std: divide by the group's std plus eps.
    Raises ValueError on bad rewards or weights.
    """
    total, groups = scalar_rewards("pass_at_k", rewards, group_index, weights, missing)
    order = group_order(total, groups)
    present = group_count(total, groups).long()
    rows = torch.bincount(groups.index, minlength=groups.count)
    last = rows.cumsum(0) - rows + present - 1
    contested = present > 1
    best, second = order[last[contested]], order[last[contested] - 1]
    lead = total[best] - total[second]
    if norm_by_std:
        spread = group_std(total, groups, ddof=ddof)[contested] + eps
        lead = lead / spread.where(spread > 0, 1.0)
    values = torch.zeros_like(total).index_put_((best,), lead)
    return group_relative(values, total, groups)
