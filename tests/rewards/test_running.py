"""Rewards that are late: coroutines that block, batches without a sample in time, first calls."""

import asyncio
import threading
import time
from typing import ClassVar

import pytest

from rlnorm.errors import InputError
from rlnorm.rewards import RewardError, Sample, Status, load_rewards, running

COUNT = 128


def batch(count=COUNT):
    return [Sample(id=str(i), group="g", completion="a") for i in range(count)]


async def scored(spec, samples, alarms, **options):
    scorer = load_rewards([spec], on_alarm=alarms.append, **({"workers": 2} | options))
    try:
        return await scorer.score(samples)
    finally:
        await scorer.close()


def score(spec, samples, **options):
    """Rows or the error, the alarms, and the seconds it took."""
    alarms, began = [], time.monotonic()
    try:
        rows = asyncio.run(scored(spec, samples, alarms, **options))
    except RewardError as error:
        rows = str(error)
    return rows, alarms, time.monotonic() - began


async def blocks(sample, *, seconds=600.0):
    time.sleep(seconds)
    return 1.0


def slow(sample, *, seconds):
    time.sleep(seconds)
    return 1.0


def hangs_on_the_first(sample):
    if sample.id == "0":
        time.sleep(600)
    return 1.0


class LoadsAtFirst:
    """The first call in a worker takes longer than the deadline."""

    def __init__(self):
        self.loaded = False

    def __call__(self, sample):
        if not self.loaded:
            time.sleep(1.5)
        self.loaded = True
        return 1.0


class Connected:
    """A client that may only be used on the loop that it was first used on."""

    made: ClassVar[list] = []

    def __init__(self):
        self.loop, self.closed_on = None, None
        self.made.append(self)

    async def score(self, samples):
        loop = asyncio.get_running_loop()
        assert self.loop in (None, loop)
        self.loop = loop
        return [1.0 for _ in samples]

    async def close(self):
        self.closed_on = asyncio.get_running_loop()


def test_a_coroutine_that_blocks_ends_the_run_at_its_deadline_by_name():
    spec = {"name": "mine", "function": blocks, "deadline_s": 1.5}
    error, _, seconds = score(spec, batch())
    assert error == (
        "reward 'mine': all 128 samples passed deadline_s = 1.5; raise rewards.mine.deadline_s or "
        f"make it faster ({running.BLOCKS})"
    )
    assert seconds < 15


def test_while_a_coroutine_blocks_the_loop_of_the_run_goes_on():
    async def run():
        began, ticks = time.monotonic(), 0
        spec = {"name": "mine", "function": blocks, "options": {"seconds": 1.0}}
        work = asyncio.ensure_future(scored(spec, batch(2), []))
        while not work.done():
            await asyncio.sleep(0.05)
            ticks += 1
        return await work, ticks, time.monotonic() - began

    rows, ticks, seconds = asyncio.run(run())
    assert [row["mine"].value for row in rows] == [1.0, 1.0]
    assert seconds >= 2.0  # one after the other, since it blocks
    assert ticks >= 10


def test_waiting_for_a_blocked_coroutine_can_be_cancelled():
    async def run():
        spec = {"name": "mine", "function": blocks}
        work = asyncio.ensure_future(scored(spec, batch(), []))
        await asyncio.sleep(0.5)
        began = time.monotonic()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return time.monotonic() - began

    assert asyncio.run(run()) < 5


@pytest.mark.parametrize("function", [blocks, slow])
def test_a_reward_that_takes_long_is_named_while_it_is_awaited(function, monkeypatch):
    monkeypatch.setattr(running, "WAITING_S", 0.3)
    spec = {"name": "mine", "function": function, "options": {"seconds": 1.0}, "deadline_s": 5}
    rows, alarms, _ = score(spec, batch(2), workers=1)
    assert [row["mine"].value for row in rows] == [1.0, 1.0]
    told = [str(alarm) for alarm in alarms if alarm.kind == "waiting"]
    assert told[0].startswith("waiting for reward 'mine': 2 samples for ")
    assert 1 <= len(told) <= 4  # after 0.3, 0.6, 1.2 and 2.4 s


def test_a_client_is_used_and_closed_on_one_loop_from_batch_to_batch():
    async def run():
        scorer = load_rewards([{"name": "c", "function": Connected}], on_alarm=lambda alarm: None)
        await scorer.score(batch(2))
        await scorer.score(batch(2))
        await scorer.close()
        return asyncio.get_running_loop()

    before = threading.active_count()
    home = asyncio.run(run())
    [reward] = Connected.made
    assert reward.loop is reward.closed_on is not home
    assert threading.active_count() == before


def test_a_worker_that_is_always_late_ends_the_run_after_a_few_samples():
    # the first call of a worker may take longer and ends, every later one is killed at 0.5 s
    spec = {"name": "mine", "function": slow, "options": {"seconds": 1.5}, "deadline_s": 0.5}
    error, _, seconds = score(spec, batch())
    assert error.startswith(
        "reward 'mine': all 128 samples passed deadline_s = 0.5; raise rewards.mine.deadline_s or "
        "make it faster (stopped after the first "
    )
    assert 8 <= int(error.split()[-1].rstrip(")")) <= 12
    assert seconds < 60  # 128 samples of 0.5 s and as many new workers would take minutes


def test_a_worker_that_never_ends_gets_its_longer_limit_once(monkeypatch):
    monkeypatch.setattr(running, "FIRST_CALL_S", 3.0)
    spec = {"name": "mine", "function": slow, "options": {"seconds": 600.0}, "deadline_s": 0.3}
    monkeypatch.setattr("rlnorm.rewards.pool._LATER_FIRST_CALL_S", 0.5)
    error, _, seconds = score(spec, batch())
    assert "all 128 samples passed deadline_s = 0.3" in error
    assert 3.0 <= seconds < 40


def test_the_first_call_in_a_worker_may_load():
    spec = {"name": "mine", "function": LoadsAtFirst, "deadline_s": 0.5}
    rows, _, _ = score(spec, batch(16))
    assert {row["mine"].status for row in rows} == {Status.CORRECT}


def test_one_sample_that_hangs_is_masked_and_the_run_goes_on(monkeypatch):
    monkeypatch.setattr(running, "FIRST_CALL_S", 2.0)
    spec = {"name": "mine", "function": hangs_on_the_first, "deadline_s": 0.5}
    rows, alarms, _ = score(spec, batch(32))
    statuses = [row["mine"].status for row in rows]
    assert statuses == [Status.TIMEOUT] + [Status.CORRECT] * 31
    [late] = [alarm.message for alarm in alarms if alarm.kind == "timeouts"]
    assert late.endswith("timed out (deadline_s = 0.5); raise rewards.mine.deadline_s")


async def fails(sample):
    raise KeyError("no such column")


def test_an_error_of_a_coroutine_is_told_with_its_place():
    error, _, _ = score({"name": "mine", "function": fails}, batch(2))
    assert "failed on 2 of 2 samples; the first: KeyError: 'no such column' (" in error
    assert error.partition("(")[2].startswith(__file__)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_coroutine_that_ends_its_thread_or_task_is_an_error_of_the_reward(error, recwarn):
    async def ends(sample):
        raise error

    told, _, seconds = score({"name": "mine", "function": ends}, batch(2))
    assert f"failed on 2 of 2 samples; the first: {type(error).__name__}" in told
    assert seconds < 5
    assert not recwarn.list


class FailsToClose:
    async def score(self, samples):
        return [1.0 for _ in samples]

    async def close(self):
        raise OSError("no such socket")


class FailsToCloseAtOnce:
    def score(self, samples):
        return [1.0 for _ in samples]

    def close(self):
        raise OSError("no such socket")


@pytest.mark.parametrize("reward", [FailsToClose, FailsToCloseAtOnce])
def test_a_reward_that_fails_to_close_is_named_and_keeps_its_scores(reward):
    rows, alarms, _ = score({"name": "mine", "function": reward}, batch(2))
    assert [row["mine"].value for row in rows] == [1.0, 1.0]
    [told] = [str(a) for a in alarms if a.kind == "close"]
    assert told.startswith("reward 'mine': its close() failed: OSError: no such socket (")


async def sleeps(sample):
    await asyncio.sleep(600)


def test_coroutines_that_are_all_late_are_given_up_after_their_first_round():
    spec = {"name": "mine", "function": sleeps, "deadline_s": 1.0}
    error, _, seconds = score(spec, batch(256))
    assert "all 256 samples passed deadline_s = 1;" in error
    assert error.endswith("(stopped after the first 64)")
    assert seconds < 8


def eats(sample):
    return float(len(bytearray(512 << 20))) if sample.id == "0" else 1.0


def test_the_memory_limit_is_the_configs_and_is_told_when_it_is_passed():
    spec = {"name": "mine", "function": eats, "memory_mb": 256}

    async def run():
        alarms = []
        scorer = load_rewards([spec], workers=1, on_alarm=alarms.append)
        scorer.batches = 1
        try:
            return await scorer.score(batch(16)), [str(a) for a in alarms if a.kind == "memory"]
        finally:
            await scorer.close()

    rows, told = asyncio.run(run())
    assert [row["mine"].status for row in rows] == [Status.INFRA_ERROR] + [Status.CORRECT] * 15
    assert told == [
        "reward 'mine': a worker passed memory_mb = 256 (1 of 16 samples); raise "
        "rewards.mine.memory_mb"
    ]
    error, _, _ = score(spec, batch(16))
    assert error == (
        "reward 'mine' failed on 1 of 16 samples; the first: a worker passed memory_mb = 256; "
        "raise rewards.mine.memory_mb"
    )
    rows, _, _ = score({**spec, "memory_mb": 1024}, batch(1))
    assert rows[0]["mine"].value == 512 << 20


def test_workers_are_shared_so_the_largest_memory_limit_holds():
    specs = [
        {"name": "small", "function": slow, "options": {"seconds": 0.0}, "memory_mb": 128},
        {"name": "large", "function": eats, "memory_mb": 4096},
    ]
    assert load_rewards(specs).memory_mb == load_rewards(specs).pool.memory_mb == 4096
    assert load_rewards(specs[:1]).memory_mb == 128
    assert load_rewards([{"name": "e", "function": "exact"}]).memory_mb == 3072


def test_a_memory_limit_without_effect_is_refused():
    with pytest.raises(InputError, match=r"rewards\.e\.memory_mb has no effect here"):
        load_rewards([{"name": "e", "function": "exact", "memory_mb": 100}])
