"""Correction of the mismatch between the engine that sampled and the learner that scored.

Paper: verl 0.9.1 (TIS, IcePop, rejection), TRL 1.16 (sequence mask)
Formula: w = exp(old - sampler), per token or multiplied over the rollout, then bounded
When: sampler and learner differ in precision, kernels or policy version
Cost: none; the sampler's logprobs come with the rollouts

Each function returns constant weights [t] that multiply the token losses; 0 drops a token. Log
weights are clamped to [-20, 20]. Means for batch_normalize are over all tokens given, so call
these once for a full step.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.options import Bound, NonNegative, Positive, checked
from rlnorm.tokens import rollout_lengths, rollout_mean, rollout_sum

Level = Literal["token", "sequence"]
LARGEST_LOG = 20.0


@checked()
def truncated(
    old_logprobs: Float[Tensor, " t"],
    sampler_logprobs: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    level: Level = "token",
    cap: Bound = 2.0,
    batch_normalize: bool = False,
) -> Float[Tensor, " t"]:
    """TIS: weights of at most cap (verl 2, TRL 3). Raises ValueError unless cap > 0."""
    weights = importance(old_logprobs, sampler_logprobs, rollout_index, level).clamp(max=cap)
    return normalised(weights, rollout_index, level) if batch_normalize else weights


def _low_below_high(low: float, high: float) -> str:
    return "" if low <= high else f"low, high = {low}, {high}: needs 0 <= low <= high"


@checked(_low_below_high)
def masked(
    old_logprobs: Float[Tensor, " t"],
    sampler_logprobs: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    level: Level = "token",
    low: NonNegative = 0.5,
    high: Bound = 5.0,
    batch_normalize: bool = False,
) -> Float[Tensor, " t"]:
    """IcePop: weights outside [low, high] become 0.

    level "sequence" with low 0 and high 3 is TRL's sequence mask (MIS).
    Raises ValueError unless 0 <= low <= high.
    """
    weights = importance(old_logprobs, sampler_logprobs, rollout_index, level)
    weights = weights.where((weights >= low) & (weights <= high), 0.0)
    return normalised(weights, rollout_index, level) if batch_normalize else weights


def _bounds_of_kind(level: str, kind: str, low: float | None, high: float) -> str:
    if level == "seq_max" and kind == "k1":
        return "level = 'seq_max' takes kind 'k2' or 'k3', got 'k1'"
    lowest = 1 / high if kind == "k1" and low is None else low
    if lowest is None or (kind == "k1" and lowest <= high):
        return ""
    return (
        f"low, high = {lowest}, {high}: needs 0 < low <= high for k1, where low is 1 / high "
        "unless given, and only a high above 0 for k2 and k3"
    )


@checked(_bounds_of_kind)
def rejected(
    old_logprobs: Float[Tensor, " t"],
    sampler_logprobs: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    level: Literal["token", "seq_sum", "seq_mean", "seq_max"] = "token",
    kind: Literal["k1", "k2", "k3"] = "k1",
    low: Positive | None = None,
    high: Bound = 2.0,
) -> Float[Tensor, " t"]:
    """Rejection: 1 where the statistic of the token or its rollout is within bounds, else 0.

    k1 is sampler - old, within [log low, log high] (low: 1 / high unless given); k2 and k3 are at
    most high and take no low. Raises ValueError for invalid bounds, or seq_max of k1.
    """
    if kind == "k1" and low is None:
        low = 1 / high
    log_ratio = (old_logprobs - sampler_logprobs).detach().clamp(-LARGEST_LOG, LARGEST_LOG)
    statistic = _statistic(log_ratio, rollout_index, level, kind)
    if low is not None:
        keep = (statistic >= math.log(low)) & (statistic <= math.log(high))
    else:
        keep = statistic <= high
    return keep.to(log_ratio.dtype)


def importance(
    old_logprobs: Float[Tensor, " t"],
    sampler_logprobs: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    level: Level,
) -> Float[Tensor, " t"]:
    """exp(old - sampler) of each token, or its product over the rollout."""
    log_ratio = (old_logprobs - sampler_logprobs).detach()
    if level == "sequence":
        log_ratio = rollout_sum(log_ratio, rollout_index)[rollout_index]
    return log_ratio.clamp(-LARGEST_LOG, LARGEST_LOG).exp()


def normalised(
    weights: Float[Tensor, " t"], rollout_index: Int[Tensor, " t"], level: Level
) -> Float[Tensor, " t"]:
    """Weights over their mean, each rollout counting once at sequence level; verl's eps 1e-8."""
    if level == "token":
        mean = weights.sum() / (weights.numel() + 1e-8)
    else:
        present = (rollout_lengths(rollout_index) > 0).sum()
        mean = rollout_mean(weights, rollout_index, eps=1e-8).sum() / present.clamp(min=1)
    return weights / mean.where(mean > 1e-8, 1.0)


def _statistic(
    log_ratio: Float[Tensor, " t"], rollout_index: Int[Tensor, " t"], level: str, kind: str
) -> Float[Tensor, " t"]:
    if kind == "k1":
        values = -log_ratio
    elif kind == "k2":
        values = 0.5 * log_ratio.square()
    else:
        values = log_ratio.exp() - 1 - log_ratio
    if level == "token":
        return values
    if level == "seq_sum":
        return rollout_sum(values, rollout_index)[rollout_index]
    if level == "seq_mean":
        return rollout_mean(values, rollout_index, eps=1e-8)[rollout_index]
    highest = torch.zeros_like(rollout_sum(values, rollout_index))
    return highest.scatter_reduce(0, rollout_index, values, "amax")[rollout_index]


CORRECTIONS: dict[str, Callable[..., Any]] = {
    "masked": masked,
    "rejected": rejected,
    "truncated": truncated,
}
