"""Whole rollouts to microbatches and ranks."""

import pytest
import torch

from rlnorm.trainers.learner.packing import (
    count_denominators,
    deal,
    microbatches,
    take_rollouts,
)
from rlnorm.types import LossDenominators, TokenBatch

LENGTHS = (9, 3, 7, 2)


def batch_of(lengths: tuple[int, ...]) -> TokenBatch:
    torch.manual_seed(1)
    n, t = torch.tensor(lengths), sum(lengths)
    cu = torch.cat([n.new_zeros(1), n.cumsum(0)])
    index = torch.repeat_interleave(torch.arange(len(lengths)), n)
    positions = torch.arange(t) - cu[index]
    return TokenBatch(
        token_ids=torch.arange(100, 100 + t),
        positions=positions,
        rollout_index=index,
        cu_seqlens=cu,
        loss_mask=positions > 0,
        columns={"advantages": torch.randn(t)},
        temperature=1.0,
        denominators=LossDenominators(tokens=t, rollouts=len(lengths), horizon=8),
    )


def test_a_rollout_without_a_trained_token_counts_in_no_denominator():
    counts = count_denominators(
        torch.tensor([True, True, False, False]), torch.tensor([0, 0, 0, 1]), horizon=8
    )
    assert counts == LossDenominators(tokens=2, rollouts=1, horizon=8)


def test_microbatches_are_neighbours_within_the_budget():
    batch = batch_of(LENGTHS)
    assert [c.tolist() for c in microbatches(batch, 12)] == [[0, 1], [2, 3]]
    assert [c.tolist() for c in microbatches(batch, 11)] == [[0], [1, 2], [3]]
    assert [c.tolist() for c in microbatches(batch, 100)] == [[0, 1, 2, 3]]


def test_a_rollout_longer_than_the_budget_gets_its_own_microbatch():
    assert [c.tolist() for c in microbatches(batch_of(LENGTHS), 1)] == [[0], [1], [2], [3]]
    assert [c.tolist() for c in microbatches(batch_of(LENGTHS), 8)] == [[0], [1], [2], [3]]


def test_a_rollout_without_a_trained_token_is_in_no_microbatch():
    batch = batch_of(LENGTHS)
    batch.loss_mask[9:12] = False
    assert [c.tolist() for c in microbatches(batch, 16)] == [[0, 2], [3]]
    batch.loss_mask[:] = False
    assert microbatches(batch, 16) == []


def test_taken_rollouts_keep_their_tokens_columns_and_the_step_denominators():
    batch = batch_of(LENGTHS)
    part = take_rollouts(batch, torch.tensor([2, 0]))
    assert part.token_ids.tolist() == [*range(112, 119), *range(100, 109)]
    assert part.cu_seqlens.tolist() == [0, 7, 16]
    assert part.rollout_index.tolist() == [0] * 7 + [1] * 9
    assert part.positions.tolist() == [*range(7), *range(9)]
    assert torch.equal(part.columns["advantages"][:7], batch.columns["advantages"][12:19])
    assert part.denominators == batch.denominators


def test_shards_are_neighbours_cut_at_even_shares_of_the_tokens():
    # 39 tokens: the middles 4.5, 10.5, 15.5, 20, 25, 31, 36 against the cut at 19.5
    lengths = (9, 3, 7, 2, 8, 4, 6)
    assert [c.tolist() for c in deal(batch_of(lengths), 2)] == [[0, 1, 2], [3, 4, 5, 6]]


@pytest.mark.parametrize("world_size", [1, 2, 3, 9])
def test_shards_hold_every_token_once(world_size):
    batch = batch_of((9, 3, 7, 2, 8, 4, 6))
    shards = [take_rollouts(batch, chosen) for chosen in deal(batch, world_size)]
    assert torch.cat([s.token_ids for s in shards]).tolist() == batch.token_ids.tolist()
    if world_size <= 3:
        assert max(len(s.token_ids) for s in shards) <= 39 / world_size + 9
