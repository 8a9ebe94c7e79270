"""OTB: the minimum-variance baseline, one for every timestep of a group.

Paper: optimal token baseline, as in verl 0.9.1
Formula: A_t = G_t - sum_i(G_it W_it) / (sum_i W_it + eps),
    W_it = sum_s<=t (1 - 2 p_s + sum_v p_v^2)
When: long rollouts whose gradient norms differ much
Cost: the scoring pass also computes sum_v p_v^2 of every token

W estimates the squared norm of the score up to a token. zero_tail: where only the longest rollout
of a group is left there is nothing to compare with, so its baseline is 0 there (verl). Departures:
groups of one and groups of equal rewards give exactly 0.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.groups import Groups, group_count, group_max, group_min, group_order, group_sum
from rlnorm.inputs import Missing, check_tokens, scalar_rewards
from rlnorm.options import NonNegative, checked
from rlnorm.tokens import rewards_to_go, rollout_lengths, running_sum, token_positions
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def otb(
    rewards: Rewards,
    group_index: GroupIndex,
    rollout_index: Int[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    sum_p2: Float[Tensor, " t"],
    token_rewards: Float[Tensor, " t"] | None = None,
    positions: Int[Tensor, " t"] | None = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    zero_tail: bool = True,
    eps: NonNegative = 1e-8,
) -> Advantages:
    """Advantage of each trained token; 0 for the tokens of a rollout whose reward is NaN.

    token_rewards: dense rewards in place of the outcome. positions: timestep of each token, its
    rank among the trained ones unless given. weights, missing: see grpo. Raises ValueError on bad
    rewards, weights or tokens.
    """
    total, groups = scalar_rewards("otb", rewards, group_index, weights, missing)
    n = total.shape[0]
    check_tokens("otb", n, rollout_index, old_logprobs=old_logprobs, sum_p2=sum_p2)
    if token_rewards is None:
        returns = total[rollout_index]
    else:
        check_tokens("otb", n, rollout_index, token_rewards=token_rewards)
        returns = rewards_to_go(token_rewards.double(), rollout_index)
        returns = returns.where(~total.isnan()[rollout_index], torch.nan)
    steps = token_positions(rollout_index) if positions is None else positions
    score_norm = 1 - 2 * old_logprobs.double().exp() + sum_p2.double()
    path = running_sum(score_norm, rollout_index)
    timesteps = int(steps.max()) + 1
    cells = Groups(groups.index[rollout_index] * timesteps + steps, groups.count * timesteps)
    path = path.where(~returns.isnan(), torch.nan)
    baseline = group_sum(returns * path, cells) / (group_sum(path, cells) + eps)
    baseline = baseline[cells.index]
    if zero_tail:
        lengths = rollout_lengths(rollout_index, n).double().where(~total.isnan(), torch.nan)
        second = second_longest(lengths, groups)[groups.index]
        tail = (lengths > second)[rollout_index] & (steps >= second[rollout_index])
        baseline = baseline.where(~tail, 0.0)
    advantages = (returns - baseline).where(~returns.isnan(), 0.0)
    flat = _without_contrast(total, groups, token_rewards)[rollout_index]
    compared = group_count(total, groups)[groups.index] > 1
    return Advantages(advantages.where(~flat, 0.0), ~total.isnan() & compared, rollout_index)


def second_longest(lengths: Float[Tensor, " n"], groups: Groups) -> Float[Tensor, " g"]:
    """Length of the second longest rollout of each group; infinite where there is none."""
    order = group_order(lengths, groups)
    present = group_sum((~lengths.isnan()).double(), groups).long()
    rows = torch.bincount(groups.index, minlength=groups.count)
    second = rows.cumsum(0) - rows + (present - 2).clamp(min=0)
    return lengths[order][second].where(present > 1, torch.inf)


def _without_contrast(
    total: Float[Tensor, " n"], groups: Groups, token_rewards: Float[Tensor, " t"] | None
) -> Bool[Tensor, " n"]:
    present = group_sum((~total.isnan()).double(), groups)
    alone = present < 2
    if token_rewards is None:
        alone = alone | (group_max(total, groups) == group_min(total, groups))
    return alone[groups.index]
