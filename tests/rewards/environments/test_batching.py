"""Turns of many rollouts in few batches, in order, without waiting for stragglers."""

import asyncio

import pytest

from rlnorm.rewards.environments.batching import Batched


def engine(batches, wait_s=0.0):
    async def generate_many(turns):
        batches.append([turn[2] for turn in turns])
        await asyncio.sleep(wait_s)
        return [([seed], [-1.0], "stop") for _, _, seed, _ in turns]

    return generate_many


async def test_requests_made_together_are_one_batch_and_answered_in_order():
    batches = []
    generate = Batched(engine(batches))
    answers = await asyncio.gather(*(generate([1], 4, seed, ()) for seed in range(5)))
    assert batches == [[0, 1, 2, 3, 4]]
    assert [ids for ids, _, _ in answers] == [[0], [1], [2], [3], [4]]


async def test_what_arrives_during_a_batch_is_the_next():
    batches = []
    generate = Batched(engine(batches, wait_s=0.2), gather_s=0.0)
    first = asyncio.create_task(generate([1], 4, 0, ()))
    await asyncio.sleep(0.1)
    later = [asyncio.create_task(generate([1], 4, seed, ())) for seed in (1, 2)]
    await asyncio.gather(first, *later)
    assert batches == [[0], [1, 2]]
    await generate([1], 4, 3, ())
    assert batches[2:] == [[3]]


async def test_a_cancelled_rollout_is_not_sampled_and_harms_nobody():
    batches = []
    generate = Batched(engine(batches, wait_s=0.1), gather_s=0.0)
    first = asyncio.create_task(generate([1], 4, 0, ()))
    await asyncio.sleep(0.05)
    dropped, kept = (asyncio.create_task(generate([1], 4, seed, ())) for seed in (1, 2))
    await asyncio.sleep(0)
    dropped.cancel()
    first.cancel()
    assert (await kept)[0] == [2]
    assert batches == [[0], [2]]


async def test_errors_reach_their_batch_and_the_next_one_runs():
    fail = True

    async def generate_many(turns):
        if fail:
            raise RuntimeError("engine")
        return [([1], [0.0], "stop")] * (len(turns) - (turns[0][2] == 9))

    generate = Batched(generate_many)
    results = await asyncio.gather(
        *(generate([1], 4, seed, ()) for seed in range(2)), return_exceptions=True
    )
    assert [str(r) for r in results] == ["engine"] * 2
    fail = False
    assert (await generate([1], 4, 0, ()))[0] == [1]
    with pytest.raises(ValueError, match="0 answers to 1 turns"):
        await generate([1], 4, 9, ())
