"""Packs rollouts without padding, and splits batches into shards and microbatches."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rlnorm.types import LossDenominators, Rollout, TokenBatch


def pack(rollouts: Sequence[Rollout], *, temperature: float, horizon: int) -> TokenBatch:
    """All rollouts of a step concatenated in order, with their sampler_logprobs column."""
    prompts = [torch.tensor(r.prompt.token_ids, dtype=torch.int64) for r in rollouts]
    completions = [r.completion for r in rollouts]
    prompt_lengths = torch.tensor([len(p) for p in prompts])
    lengths = prompt_lengths + torch.tensor([len(c.token_ids) for c in completions])
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rollout_index = torch.repeat_interleave(torch.arange(len(rollouts)), lengths)
    positions = torch.arange(int(cu_seqlens[-1])) - cu_seqlens[rollout_index]
    pairs = list(zip(prompts, completions, strict=True))
    token_ids = torch.cat([x for p, c in pairs for x in (p, c.token_ids.to(torch.int64))])
    loss_mask = torch.cat(
        [x for p, c in pairs for x in (torch.zeros(len(p), dtype=torch.bool), c.policy_mask)]
    )
    sampler = torch.cat(
        [x for p, c in pairs for x in (torch.zeros(len(p)), c.sampler_logprobs.float())]
    )
    return TokenBatch(
        token_ids=token_ids,
        positions=positions,
        rollout_index=rollout_index,
        cu_seqlens=cu_seqlens,
        loss_mask=loss_mask,
        columns={"sampler_logprobs": sampler.where(loss_mask, 0.0)},
        temperature=temperature,
        denominators=count_denominators(loss_mask, rollout_index, horizon),
    )


def count_denominators(
    loss_mask: Bool[Tensor, " t"], rollout_index: Int[Tensor, " t"], horizon: int
) -> LossDenominators:
    """The counts by which a loss is divided; computed once, before any sharding."""
    return LossDenominators(
        tokens=int(loss_mask.sum()),
        rollouts=len(torch.unique(rollout_index[loss_mask])),
        horizon=horizon,
    )


def take_rollouts(batch: TokenBatch, chosen: Int[Tensor, " m"]) -> TokenBatch:
    """The batch of the chosen rollouts, in that order, with unchanged denominators."""
    lengths = batch.cu_seqlens.diff()[chosen]
    tokens = token_index(batch, chosen)
    return replace(
        batch,
        token_ids=batch.token_ids[tokens],
        positions=batch.positions[tokens],
        rollout_index=torch.repeat_interleave(
            torch.arange(len(chosen), device=lengths.device), lengths
        ),
        cu_seqlens=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
        loss_mask=batch.loss_mask[tokens],
        columns={name: column[tokens] for name, column in batch.columns.items()},
    )


def token_index(batch: TokenBatch, chosen: Int[Tensor, " m"]) -> Int[Tensor, " k"]:
    """Positions in the batch of all tokens of the chosen rollouts, in that order."""
    lengths = batch.cu_seqlens.diff()[chosen]
    shift = batch.cu_seqlens[:-1][chosen] - (lengths.cumsum(0) - lengths)
    shift = torch.repeat_interleave(shift, lengths)
    return shift + torch.arange(len(shift), device=shift.device)


def microbatches(batch: TokenBatch, max_tokens: int) -> list[Int[Tensor, " _"]]:
    """Rollout indices of each microbatch: consecutive rollouts of at most max_tokens in total.

    The rollouts of a prompt are consecutive, so most of those that share a prefix are in the same
    microbatch. A rollout longer than max_tokens gets its own; one without trained tokens none.
    """
    chunks: list[list[int]] = []
    room = 0
    trained = set(batch.rollout_index[batch.loss_mask].unique().tolist())
    for i, length in enumerate(batch.cu_seqlens.diff().tolist()):
        if i not in trained:
            continue
        if length > room or not chunks:
            chunks.append([])
            room = max_tokens
        chunks[-1].append(i)
        room -= length
    return [torch.tensor(chunk) for chunk in chunks]


def deal(batch: TokenBatch, world_size: int) -> list[Int[Tensor, " _"]]:
    """Rollout indices of each rank: consecutive rollouts with about the same number of tokens.

    With all tokens divided evenly over the ranks, a rollout goes to the rank of its middle token.
    """
    middle = batch.cu_seqlens[:-1] + batch.cu_seqlens[1:]
    owner = middle * world_size // (2 * batch.cu_seqlens[-1])
    return [(owner == rank).nonzero()[:, 0] for rank in range(world_size)]
