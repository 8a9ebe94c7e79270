"""Distance from the group's median: one lucky rollout among failures moves no other's advantage."""

from collections.abc import Sequence

import torch
from torch import Tensor


def above_median(
    rewards: Tensor, group_index: Tensor, *, weights: Sequence[float] = (), scale: float = 1.0
) -> Tensor:
    """rewards [n, r], NaN where a reward failed -> advantages [n], 0 for such rollouts.

    Of an even count the median is the mean of the middle two. weights: of the rewards, from the
    config. scale: multiplies the distances.
    """
    total = rewards @ rewards.new_tensor(weights)
    advantages = torch.zeros_like(total)
    for group in group_index.unique():
        rows = (group_index == group) & ~total.isnan()
        if rows.any():
            advantages[rows] = scale * (total[rows] - total[rows].quantile(0.5))
    return advantages
