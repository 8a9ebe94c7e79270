"""REINFORCE++: token returns, whitened over all tokens of the batch.

Paper: arXiv:2501.03262
Formula: A_t = (R_t - mean R) / sqrt(var R + eps) over trained tokens,  R_t = gamma^(T - t) * r
When: one rollout per prompt (global), or groups with baseline true
Cost: one pass over the tokens; reinforce_pp_kl needs reference logprobs

With baseline true R is the reward minus its group mean, undiscounted, as in verl's "-baseline".
Long answers count more: the statistics are over tokens. Departures: NaN rewards are left out; a
group of one has baseline advantage 0 before whitening (verl: its reward).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.advantages.combinators import whiten
from rlnorm.advantages.grpo import keep_singletons
from rlnorm.groups import group_centred
from rlnorm.inputs import Missing, check_tokens, scalar_rewards, zero_missing
from rlnorm.options import NonNegative, Share, checked
from rlnorm.tokens import rewards_to_go, rollout_lengths, token_positions
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def reinforce_pp(
    rewards: Rewards,
    group_index: GroupIndex,
    rollout_index: Int[Tensor, " t"],
    token_rewards: Float[Tensor, " t"] | None = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    baseline: bool = False,
    gamma: Share = 1.0,
    eps: NonNegative = 1e-8,
    singleton: Literal["zero", "reward"] = "zero",
    count_eps: NonNegative = 0.0,
) -> Advantages:
    """Advantage of each trained token; 0 for the tokens of a rollout whose reward is NaN.

    token_rewards: dense rewards in place of the outcome, not read with baseline. weights, missing,
    singleton: see grpo. count_eps: added to token counts (verl: 1e-8). Raises ValueError on bad
    rewards, weights or tokens, or gamma outside [0, 1].
    """
    total, groups = scalar_rewards("reinforce_pp", rewards, group_index, weights, missing)
    check_tokens("reinforce_pp", total.shape[0], rollout_index)
    if baseline:
        centred = group_centred(total, groups)
        if singleton == "reward":
            centred = keep_singletons(centred, total, groups)
        returns = centred[rollout_index]
    elif token_rewards is None:
        returns = outcome_returns(total, rollout_index, gamma=gamma)
    else:
        check_tokens("reinforce_pp", total.shape[0], rollout_index, token_rewards=token_rewards)
        returns = rewards_to_go(token_rewards.double(), rollout_index, gamma=gamma)
        returns = returns.where(~total.isnan()[rollout_index], torch.nan)
    values = zero_missing(whiten(returns, eps=eps, eps_inside=True, count_eps=count_eps))
    return Advantages(values, ~total.isnan(), rollout_index)


@checked()
def reinforce_pp_kl(
    rewards: Rewards,
    group_index: GroupIndex,
    rollout_index: Int[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    ref_logprobs: Float[Tensor, " t"],
    *,
    kl_coef: NonNegative = 0.01,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    gamma: Share = 1.0,
    eps: NonNegative = 1e-8,
) -> Advantages:
    """The global variant with -kl_coef * (old - ref) as the reward of every token.

    The outcome is added at the last token. Raises ValueError as reinforce_pp does.
    """
    total, _ = scalar_rewards("reinforce_pp_kl", rewards, group_index, weights, missing)
    check_tokens(
        "reinforce_pp_kl",
        total.shape[0],
        rollout_index,
        old_logprobs=old_logprobs,
        ref_logprobs=ref_logprobs,
    )
    last = tokens_to_go(rollout_index) == 0
    outcome = total.nan_to_num(0.0)[rollout_index].where(last, 0.0)
    dense = outcome - kl_coef * (old_logprobs.double() - ref_logprobs.double())
    return reinforce_pp(total[:, None], group_index, rollout_index, dense, gamma=gamma, eps=eps)


def tokens_to_go(rollout_index: Int[Tensor, " t"]) -> Int[Tensor, " t"]:
    """How many tokens of the rollout follow each token."""
    return rollout_lengths(rollout_index)[rollout_index] - 1 - token_positions(rollout_index)


def outcome_returns(
    total: Float[Tensor, " n"], rollout_index: Int[Tensor, " t"], *, gamma: float
) -> Float[Tensor, " t"]:
    """Return of each token when the reward comes at the last one."""
    discount = torch.pow(gamma, tokens_to_go(rollout_index).double())
    return discount * total[rollout_index]
