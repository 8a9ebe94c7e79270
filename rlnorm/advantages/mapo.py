"""MAPO (turn level, later renamed MICA): returns compared turn by turn, rewards over the scope.

Paper: arXiv:2603.06194 (v1 "MAPO", v2 and v3 "MICA"); no official code, secondary descriptions
Formula: A = alpha * z(return; same group, same turn) + beta * z(reward; all turns of the scope)
When: multi-turn dialogues with a reward for every turn
Cost: one pass over the turn rewards; tokens need their turn index

The second part is over the batch in v1 and over the group in v3: batch_scope (default group). The
discount is not given anywhere (default 1); alpha in [0.5, 0.7] is reported best. Std is the
population's, eps 1e-8, after a third-party reimplementation of v3.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.advantages.combinators import mixed
from rlnorm.groups import Groups, group_zscore, one_group
from rlnorm.inputs import check_groups, check_table, zero_missing
from rlnorm.options import Ddof, NonNegative, Share, checked
from rlnorm.types import Advantages, GroupIndex

Scope = Literal["group", "batch"]


@checked()
def mapo(
    turn_rewards: Float[Tensor, "n u"],
    group_index: GroupIndex = None,
    *,
    alpha: NonNegative = 0.5,
    beta: NonNegative = 0.5,
    gamma: Share = 1.0,
    eps: NonNegative = 1e-8,
    ddof: Ddof = 0,
    batch_scope: Scope = "group",
    turn_scope: Scope = "group",
) -> Advantages:
    """Advantage of each turn; NaN marks a turn that does not exist, which gets 0.

    A turn that only one rollout reached has only the second part; a group of one is
    compared with itself over its turns. Raises ValueError for a table of wrong shape, no turn
    at all, an infinite reward, or gamma outside [0, 1].
    """
    check_table("mapo", "turn_rewards", turn_rewards)
    groups = check_groups("mapo", group_index, turn_rewards.shape[0])
    rewards = turn_rewards.double()
    scopes = {"group": groups, "batch": one_group(rewards)}
    returns = turn_returns(rewards, gamma=gamma)
    by_turn = group_zscore(returns, scopes[turn_scope], eps=eps, ddof=ddof)
    over_turns = _zscore_all_turns(rewards, scopes[batch_scope], eps=eps, ddof=ddof)
    values = zero_missing(mixed(by_turn, over_turns, alpha=alpha, beta=beta))
    return Advantages(values, ~rewards.isnan().all(dim=1))


def turn_returns(turn_rewards: Float[Tensor, "n u"], *, gamma: float) -> Float[Tensor, "n u"]:
    """Discounted sum from each turn on, over the turns that exist; NaN for the others."""
    running = torch.zeros_like(turn_rewards[:, 0])
    returns = []
    for reward in turn_rewards.flip(1).unbind(dim=1):
        present = ~reward.isnan()
        running = (reward + gamma * running).where(present, running)
        returns.append(running.where(present, torch.nan))
    return torch.stack(returns[::-1], dim=1)


def _zscore_all_turns(
    rewards: Float[Tensor, "n u"], groups: Groups, *, eps: float, ddof: int
) -> Float[Tensor, "n u"]:
    flat = Groups(groups.index.repeat_interleave(rewards.shape[1]), groups.count)
    return group_zscore(rewards.reshape(-1), flat, eps=eps, ddof=ddof).reshape(rewards.shape)
