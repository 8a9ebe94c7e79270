"""Rollouts to packed tokens, and those to shards and microbatches: whole rollouts, no padding."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rlnorm.types import LossDenominators, Rollout, TokenBatch


def pack(rollouts: Sequence[Rollout], *, temperature: float, horizon: int) -> TokenBatch:
    """All rollouts of a step laid end to end, in order, with their sampler_logprobs column."""
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


def count_denominators(loss_mask: Tensor, rollout_index: Tensor, horizon: int) -> LossDenominators:
    """The counts a loss is divided by; taken once, before any sharding."""
    return LossDenominators(
        tokens=int(loss_mask.sum()),
        rollouts=len(torch.unique(rollout_index[loss_mask])),
        horizon=horizon,
    )


def take_rollouts(batch: TokenBatch, chosen: Tensor) -> TokenBatch:
    """The sub-batch of the chosen rollouts [m], in that order; denominators stay as they are."""
    starts, ends = batch.cu_seqlens[:-1][chosen], batch.cu_seqlens[1:][chosen]
    lengths = ends - starts
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rollout_index = torch.repeat_interleave(torch.arange(len(chosen)), lengths)
    positions = torch.arange(int(cu_seqlens[-1])) - cu_seqlens[rollout_index]
    tokens = starts[rollout_index] + positions
    return replace(
        batch,
        token_ids=batch.token_ids[tokens],
        positions=positions,
        rollout_index=rollout_index,
        cu_seqlens=cu_seqlens,
        loss_mask=batch.loss_mask[tokens],
        columns={name: column[tokens] for name, column in batch.columns.items()},
    )


def microbatches(batch: TokenBatch, max_tokens: int) -> list[Tensor]:
    """Rollout indices of each microbatch: at most max_tokens of similar lengths, never split.

    A rollout longer than max_tokens gets a microbatch of its own.
    """
    lengths = batch.cu_seqlens.diff()
    order = torch.argsort(lengths, descending=True, stable=True)
    chunks: list[list[int]] = []
    room = 0
    for i, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        if length > room or not chunks:
            chunks.append([])
            room = max_tokens
        chunks[-1].append(i)
        room -= length
    return [torch.tensor(chunk) for chunk in chunks]


def deal(batch: TokenBatch, world_size: int) -> list[Tensor]:
    """Rollout indices of each rank: dealt by length, so that ranks hold about the same tokens."""
    order = torch.argsort(batch.cu_seqlens.diff(), descending=True, stable=True)
    # a snake (0 1 1 0 0 1 ...) keeps the ranks' token counts within one rollout of each other
    lap = torch.arange(len(order)) % (2 * world_size)
    owner = torch.minimum(lap, 2 * world_size - 1 - lap)
    return [order[owner == rank].sort().values for rank in range(world_size)]


def token_index(batch: TokenBatch, chosen: Tensor) -> Tensor:
    """Positions in the batch of all tokens of the chosen rollouts, in that order."""
    starts, ends = batch.cu_seqlens[:-1].tolist(), batch.cu_seqlens[1:].tolist()
    return torch.cat([torch.arange(starts[i], ends[i]) for i in chosen.tolist()])


def shard(batch: TokenBatch, rank: int, world_size: int) -> TokenBatch:
    """The rollouts of one rank."""
    return take_rollouts(batch, deal(batch, world_size)[rank])
