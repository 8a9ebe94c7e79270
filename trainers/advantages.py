"""Turns scored rollouts into batches for the learner; all that spans rollouts is computed here.

Advantages, mismatch weights and loss denominators become constants of the batch, so the number of
ranks and microbatches cannot change the result.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from rlnorm.algorithms import Algorithm
from rlnorm.errors import of_check
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.learner.packing import count_denominators, pack, take_rollouts
from rlnorm.trainers.learner.types import Learner
from rlnorm.trainers.scoring import filled, why_no_reward
from rlnorm.trainers.seeds import derive_seed
from rlnorm.types import ScoredRollouts, StepResult, TokenBatch

SCORED_COLUMNS = frozenset({"ref_logprobs", "proxy_logprobs", "sum_p2", "entropy"})


@dataclass(frozen=True, kw_only=True, slots=True)
class AdvantageBatch:
    """All tokens of a step with their advantages, and which rollouts train."""

    batch: TokenBatch
    advantages: Float[Tensor, "..."]
    """[n], [n u] or one per trained token, in float64, as the estimator returned them."""
    keep: Bool[Tensor, " n"]
    group_index: Int[Tensor, " n"]
    zero_signal_frac: float
    """Share of groups in which every advantage is 0."""


async def compute_advantages(
    scored: ScoredRollouts,
    learner: Learner,
    algorithm: Algorithm,
    config: Config,
    weights: Mapping[str, float],
    greedy_rewards: Float[Tensor, " n"] | None = None,
) -> AdvantageBatch:
    """Compute the token columns that the algorithm needs, then advantages and corrections.

    weights: of each reward component, by name. greedy_rewards: of each rollout's baseline (ReMax).
    """
    # BNPO fits a component to the groups it applies to; 0 would stand there for a failed prompt
    elsewhere = math.nan if algorithm.estimator.name == "bnpo" else 0.0
    scored = replace(scored, rewards=filled(scored, elsewhere=elsewhere))
    batch = pack(
        scored.rollouts, temperature=config.rollout.temperature, horizon=config.rollout.max_tokens
    )
    columns = dict(batch.columns)
    want = algorithm.needs & SCORED_COLUMNS
    if config.learner.old_logprobs == "sampler":
        columns["old_logprobs"] = columns["sampler_logprobs"]
    else:
        want |= {"old_logprobs"}
    if want:
        columns |= await learner.score(batch, frozenset(want))
    mask = batch.loss_mask
    rollout_index = batch.rollout_index[mask]
    turn_index = torch.cat([r.completion.turn_index for r in scored.rollouts])
    turn_index = turn_index[torch.cat([r.completion.policy_mask for r in scored.rollouts])]
    by_column = [weights[name] for name in scored.reward_names]
    data = driver_data(scored, columns, batch, turn_index, by_column)
    if greedy_rewards is not None:
        data["greedy_rewards"] = greedy_rewards
    try:
        result = algorithm.advantages(data)
    except Exception as error:  # a user's estimator may raise anything
        raise RunError(why_no_reward(scored) or f"algorithm: {of_check(error)}") from error
    token_advantages = result.per_token(rollout_index, turn_index)
    columns["advantages"] = _spread(token_advantages, mask)
    if algorithm.correction:
        correction = algorithm.correction_weights(
            data["old_logprobs"], data["sampler_logprobs"], rollout_index
        )
        columns["correction"] = _spread(correction, mask)
    for name in ("sum_p2", "entropy"):  # inputs of estimators only, not of losses
        columns.pop(name, None)
    return AdvantageBatch(
        batch=replace(batch, columns=columns, loss_mask=result.keep[batch.rollout_index] & mask),
        advantages=result.values,
        keep=result.keep,
        group_index=scored.group_index,
        zero_signal_frac=_zero_signal_frac(token_advantages, rollout_index, scored.group_index),
    )


def driver_data(
    scored: ScoredRollouts,
    columns: dict[str, Float[Tensor, " t"]],
    batch: TokenBatch,
    turn_index: Int[Tensor, " k"],
    weights: Sequence[float],
) -> dict[str, Tensor]:
    """The parameters available to estimators and modulators, of the k trained tokens.

    Without an environment a rollout has one turn, whose reward is the weighted sum; a reward of
    weight 0 that failed does not spoil it.
    """
    mask = batch.loss_mask
    rollout_index = batch.rollout_index[mask]
    counted = [i for i, weight in enumerate(weights) if weight != 0]
    given = scored.rewards.new_tensor([weights[i] for i in counted])
    one_turn = (scored.rewards[:, counted] @ given)[:, None]
    return {name: column[mask].double() for name, column in columns.items()} | {
        "rollout_index": rollout_index,
        "turn_index": turn_index,
        "rewards": scored.rewards,
        "group_index": scored.group_index,
        "truncated": scored.truncated,
        "positions": batch.positions[mask],
        "lengths": torch.bincount(rollout_index, minlength=len(scored.rollouts)),
        "turn_rewards": one_turn if scored.turn_rewards is None else scored.turn_rewards,
    }


def minibatches(advantages: AdvantageBatch, config: Config, step: int) -> list[TokenBatch]:
    """One batch per optimizer step: a random share of the groups, with its own denominators."""
    groups = int(advantages.group_index.max()) + 1
    out = []
    for epoch in range(config.learner.epochs):
        seed = derive_seed(config.seed, "minibatch", step, epoch)
        order = torch.randperm(groups, generator=torch.Generator().manual_seed(seed))
        for share in order.tensor_split(config.learner.minibatches):
            chosen = torch.isin(advantages.group_index, share).nonzero()[:, 0]
            batch = take_rollouts(advantages.batch, chosen)
            counts = count_denominators(
                batch.loss_mask, batch.rollout_index, batch.denominators.horizon
            )
            if counts.tokens:
                out.append(replace(batch, denominators=counts))
    return out


async def prepare_minibatch(
    batch: TokenBatch, learner: Learner, algorithm: Algorithm, *, fresh: bool
) -> TokenBatch:
    """Add columns that depend on the current weights; leave out rollouts that give no gradient.

    fresh: no optimizer step was taken since old_logprobs were computed, so they are current.
    """
    columns = dict(batch.columns)
    if "proximal_logprobs" in algorithm.needs:
        columns |= await learner.score(batch, frozenset({"proximal_logprobs"}))
    if algorithm.selector is not None:
        want = set(algorithm.selector.data) & {"entropy"}
        if not fresh:
            want |= {"old_logprobs"}
        current = await learner.score(batch, frozenset(want)) if want else {}
        data = {name: column[batch.loss_mask] for name, column in (columns | current).items()}
        data["logprobs"] = data["old_logprobs"]
        data["old_logprobs"] = columns["old_logprobs"][batch.loss_mask]
        data["rollout_index"] = batch.rollout_index[batch.loss_mask]
        selected = algorithm.select(data)
        assert selected is not None, "the algorithm has no selector"
        columns["selected"] = _spread(selected, batch.loss_mask)
    batch = replace(batch, columns=columns)
    return drop_zero_advantage(batch) if algorithm.zero_at_zero_advantage else batch


def rescale_metrics(result: StepResult, batch: TokenBatch) -> StepResult:
    """Correct token means for the tokens that drop_zero_advantage left out."""
    ran = int(batch.loss_mask.sum())
    factor = batch.denominators.tokens / max(ran, 1)
    metrics = {
        name: value if name.endswith("_loss") else value * factor
        for name, value in result.metrics.items()
    }
    return replace(result, metrics=metrics)


def drop_zero_advantage(batch: TokenBatch) -> TokenBatch:
    """Leave out rollouts whose every advantage is 0; their tokens stay in the denominators.

    The gradient stays the same for losses that are linear in the advantage.
    """
    trains = torch.zeros(len(batch.cu_seqlens) - 1, dtype=torch.bool)
    weighted = batch.loss_mask & (batch.columns["advantages"] != 0)
    trains[batch.rollout_index[weighted]] = True
    return batch if trains.all() else take_rollouts(batch, trains.nonzero()[:, 0])


def _spread(values: Shaped[Tensor, " k"], mask: Bool[Tensor, " t"]) -> Float[Tensor, " t"]:
    out = torch.zeros(len(mask), dtype=torch.float32)
    out[mask] = values.float()
    return out


def _zero_signal_frac(
    advantages: Float[Tensor, " k"],
    rollout_index: Int[Tensor, " k"],
    group_index: Int[Tensor, " n"],
) -> float:
    has_signal = torch.zeros(int(group_index.max()) + 1, dtype=torch.bool)
    has_signal[group_index[rollout_index[advantages != 0]]] = True
    return 1.0 - float(has_signal.double().mean())
