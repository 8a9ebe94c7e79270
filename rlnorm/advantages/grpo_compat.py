"""The GRPO of other frameworks, rounding included, to reproduce a result obtained elsewhere.

Paper: none; formulas of verl, TRL, OpenRLHF, NeMo-RL, prime-rl and open-instruct, 2026-08
Formula: A = (r - mean_g) / (std_g + eps) in float32, with each framework's mean, std and eps
When: only to reproduce another framework's numbers; use grpo otherwise
Cost: one pass for each group size in the batch

Kept on purpose: equal rewards whose float32 mean rounds give an advantage that is not 0. The
order of summation is torch's over the rollouts of a group, in the order they have in the batch.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.groups import group_order
from rlnorm.inputs import group_relative, scalar_rewards
from rlnorm.options import Ddof, NonNegative, checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def grpo_compat(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    eps: NonNegative = 1e-6,
    ddof: Ddof = 1,
    scale: Literal["group", "none"] = "group",
    baseline: Literal["mean", "leave_one_out", "matmul"] = "mean",
    singleton: Literal["zero", "reward"] = "zero",
    dtype: Literal["float32", "float64"] = "float32",
) -> Advantages:
    """Advantage of each rollout as another framework would compute it.

    baseline: "leave_one_out" and "matmul" are NeMo-RL's two: mean and std from sums and sums of
    squares, over the others or over all. A NaN reward gives 0. Raises ValueError on bad rewards.
    """
    total, groups = scalar_rewards("grpo_compat", rewards, group_index, weights, "drop")
    advantages = torch.zeros_like(total)
    narrow = total.to(getattr(torch, dtype))
    # rows in their own order within a group; NaN ones go to a group that is never read
    order = group_order(torch.zeros_like(total).where(~total.isnan(), torch.nan), groups)
    present = torch.bincount(groups.index[~total.isnan()], minlength=groups.count)
    rows = torch.bincount(groups.index, minlength=groups.count)
    starts = rows.cumsum(0) - rows
    for size in sorted(set(present.tolist())):
        if size == 0:
            continue
        members = order[starts[present == size][:, None] + torch.arange(size, device=order.device)]
        if size == 1:
            raw = narrow[members] / (1 + eps) if scale == "group" else narrow[members]
            value = raw if singleton == "reward" else torch.zeros_like(raw)
        elif baseline == "mean":
            value = _zscore(narrow[members], eps, ddof, scale)
        else:
            value = _from_moments(narrow[members], eps, baseline == "leave_one_out", scale)
        advantages[members] = value.double()
    return group_relative(advantages, total, groups)


def _zscore(block: Float[Tensor, "g m"], eps: float, ddof: int, scale: str) -> Float[Tensor, "g m"]:
    centred = block - block.mean(dim=1, keepdim=True)
    if scale == "none":
        return centred
    return centred / (block.std(dim=1, keepdim=True, correction=ddof) + eps)


def _from_moments(
    block: Float[Tensor, "g m"], eps: float, leave_one_out: bool, scale: str
) -> Float[Tensor, "g m"]:
    size = block.shape[1]
    voters = torch.ones(size, size, dtype=block.dtype, device=block.device)
    if leave_one_out:
        voters = voters - torch.eye(size, dtype=block.dtype, device=block.device)
    count = size - int(leave_one_out)
    mean = block @ voters / count
    spread = block.square() @ voters / count - mean.square()
    # one other rollout has no spread: NeMo-RL's 0/0 becomes 0, and 0 means unscaled
    std = (spread * (count / (count - 1) if count > 1 else torch.nan)).sqrt().nan_to_num(0.0)
    centred = block - mean
    return torch.where((std > 0) & (scale == "group"), centred / (std + eps), centred)
