"""Sums over the tokens of a rollout, on packed [t] vectors of trained tokens.

Tokens of a rollout are contiguous and in order, as packed. The sums are
differentiable; rollouts without a token get 0.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rollout_count(rollout_index: Int[Tensor, " t"]) -> int:
    """One more than the largest index; 0 without tokens."""
    return int(rollout_index.max()) + 1 if rollout_index.numel() else 0


def rollout_sum(
    values: Float[Tensor, " t"], rollout_index: Int[Tensor, " t"], n: int | None = None
) -> Float[Tensor, " n"]:
    """Sum over the tokens of each rollout."""
    size = rollout_count(rollout_index) if n is None else n
    return values.new_zeros(size).index_add(0, rollout_index, values)


def rollout_lengths(rollout_index: Int[Tensor, " t"], n: int | None = None) -> Int[Tensor, " n"]:
    """Trained tokens of each rollout."""
    size = rollout_count(rollout_index) if n is None else n
    return torch.bincount(rollout_index, minlength=size)


def rollout_mean(
    values: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    n: int | None = None,
    *,
    eps: float = 0.0,
) -> Float[Tensor, " n"]:
    """Mean over the tokens of each rollout; eps is added to the count, 0 without tokens."""
    total = rollout_sum(values, rollout_index, n)
    counts = rollout_lengths(rollout_index, n).to(values.dtype)
    return total / (counts + eps).where(counts > 0, torch.ones_like(counts))


def token_positions(rollout_index: Int[Tensor, " t"]) -> Int[Tensor, " t"]:
    """Rank of each token among the tokens of its rollout, from 0."""
    lengths = rollout_lengths(rollout_index)
    starts = lengths.cumsum(0) - lengths
    return torch.arange(rollout_index.numel(), device=rollout_index.device) - starts[rollout_index]


def rewards_to_go(
    token_rewards: Float[Tensor, " t"], rollout_index: Int[Tensor, " t"], *, gamma: float = 1.0
) -> Float[Tensor, " t"]:
    """Discounted sum of the rewards from each token to the end of its rollout.

    Doubles the horizon at every pass, so it takes log2(longest rollout) passes and never divides
    by a power of gamma.
    """
    returns, step = token_rewards.clone(), 1
    longest = int(rollout_lengths(rollout_index).max()) if rollout_index.numel() else 0
    while step < longest:
        same = rollout_index[step:] == rollout_index[:-step]
        later = torch.where(same, returns[step:], torch.zeros_like(returns[step:]))
        returns = torch.cat((returns[:-step] + gamma**step * later, returns[-step:]))
        step *= 2
    return returns


def running_sum(
    values: Float[Tensor, " t"], rollout_index: Int[Tensor, " t"]
) -> Float[Tensor, " t"]:
    """Sum of the values from the start of its rollout to each token, itself included."""
    return rewards_to_go(values.flip(0), rollout_index.flip(0)).flip(0)
