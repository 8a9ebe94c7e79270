"""Runs one reward on a batch: in this process, in workers, or on an event loop, each under its
deadline, and says so while it waits."""

import asyncio
import inspect
import math
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from rlnorm.errors import with_place
from rlnorm.rewards.alarm import Alarm
from rlnorm.rewards.calls import Call
from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.loop_thread import LoopThread
from rlnorm.rewards.outcome import Outcome, not_run
from rlnorm.rewards.pool import GIVE_UP_AFTER, Pool
from rlnorm.rewards.spec import RewardSpec

LOOP_DEADLINE_S = 600.0
"""Per sample, for a coroutine without a deadline of its own."""
AT_ONCE = 64
"""Most concurrent coroutines of a reward that takes one sample at a time."""
FIRST_CALL_S = 60.0
"""A first call in a worker imports and loads: it may take this, or ten deadlines if longer."""
WAITING_S = 30.0
"""After this a reward that is still running is named; again after twice as long each time."""
_LEAST_SILENCE_S = 1.0
BLOCKS = "it blocks its event loop: await what is slow, or write a plain def"


@dataclass(frozen=True, slots=True)
class BoundReward:
    """One spec with its function found and its components named."""

    spec: RewardSpec
    call: Call
    components: tuple[str, ...]
    shipped: str | bytes | None = None
    """What workers import or unpickle, where the call runs in them."""
    pool_call: int | None = None
    """Its id in the runner's pool."""

    @property
    def compare_with(self) -> str | None:
        """The component that this one, a judge, should agree with; see rlnorm.rewards.agreement."""
        return getattr(self.call.target, "compare_with", None)

    def attached(self, pool: Pool) -> "BoundReward":
        """The same reward, with its function registered with this pool."""
        attach = getattr(self.call.target, "attach", None)
        if attach is not None:
            attach(pool)
        if self.call.where != "pool":
            return self
        assert self.shipped is not None, "a call in a pool is shipped to it"
        return replace(self, pool_call=pool.register(self.shipped, self.spec.options))


class Runner:
    """Holds the pool of the rewards that run in workers, and the thread of users' coroutines."""

    def __init__(self, pool: Pool, deadline_s: float, on_alarm: Callable[[Alarm], None]) -> None:
        self.pool, self._deadline_s, self._on_alarm = pool, deadline_s, on_alarm
        self._thread: LoopThread | None = None

    def deadline_s(self, reward: BoundReward) -> float:
        """Seconds that one sample may take."""
        usual = self._deadline_s if reward.call.where == "pool" else LOOP_DEADLINE_S
        return reward.spec.deadline_s or usual

    async def outcomes(self, reward: BoundReward, items: Sequence[Any]) -> list[Outcome]:
        """One Outcome per item. Raises RewardError if all of them pass the deadline."""
        watch = asyncio.ensure_future(self._watch(reward.spec.name, len(items)))
        try:
            if reward.call.where == "inline":
                return await _run_inline(reward.call, items)
            run = {"pool": self._in_pool, "loop": self._here, "thread": self._in_thread}
            found = await run[reward.call.where](reward, items)
        finally:
            watch.cancel()
        _check_in_time(reward.spec.name, found, self.deadline_s(reward))
        return found

    async def close(self, rewards: Sequence[BoundReward]) -> None:
        """Close what the rewards hold open, users' coroutines on their own loop, and end that loop.

        An error in the `close` of a reward is an alarm: scores and weights are there by then.
        """
        thread, self._thread = self._thread, None
        async with AsyncExitStack() as stack:  # an error in one must not keep another open
            if thread is not None:
                stack.push_async_callback(asyncio.to_thread, thread.stop)
            for reward in rewards:
                if thread is None or reward.call.where != "thread":
                    stack.push_async_callback(self._close_target, reward)
                elif hasattr(reward.call.target, "close"):
                    stack.push_async_callback(_on_thread, thread, self._close_target(reward), 0.0)

    async def _close_target(self, reward: BoundReward) -> None:
        """Call and await `close` of a reward that has one."""
        close = getattr(reward.call.target, "close", None)
        try:
            result = close() if close is not None else None
            if inspect.isawaitable(result):
                await result
        except Exception as error:  # a user's code
            said = f"its close() failed: {with_place(error)}"
            self._on_alarm(Alarm(reward.spec.name, "close", said))

    async def _watch(self, name: str, count: int) -> None:
        began, wait_s = time.monotonic(), WAITING_S
        while True:
            await asyncio.sleep(wait_s)
            spent = time.monotonic() - began
            self._on_alarm(Alarm(name, "waiting", f"{count} samples for {spent:.0f} s"))
            wait_s = spent

    async def _in_pool(self, reward: BoundReward, items: Sequence[Any]) -> list[Outcome]:
        assert reward.pool_call is not None
        deadline = self.deadline_s(reward)
        if not reward.call.batched:
            return await self.pool.map(
                reward.pool_call,
                items,
                deadline_s=deadline,
                first_s=max(FIRST_CALL_S, 10 * deadline),
                give_up_after=GIVE_UP_AFTER,
            )
        limit = deadline * len(items)
        [batch] = await self.pool.map(
            reward.pool_call, [list(items)], deadline_s=limit, first_s=limit + FIRST_CALL_S
        )
        return _split_batch(batch, len(items), reward.spec.name)

    async def _here(self, reward: BoundReward, items: Sequence[Any]) -> list[Outcome]:
        """Await rlnorm's own coroutines on the loop of the run."""
        found: list[Outcome | None] = [None] * len(items)
        await _await_all(reward, items, self.deadline_s(reward), found)
        return [outcome for outcome in found if outcome is not None]

    async def _in_thread(self, reward: BoundReward, items: Sequence[Any]) -> list[Outcome]:
        """Await users' coroutines on a loop of their own, which is left behind once it is silent
        for longer than a sample may take."""
        deadline = self.deadline_s(reward)
        found: list[Outcome | None] = [None] * len(items)
        thread = self._thread = self._thread or LoopThread("rewards")
        if not await _on_thread(thread, _await_all(reward, items, deadline, found), deadline):
            self._thread = None
        return [outcome or Outcome("timeout", BLOCKS, deadline) for outcome in found]


async def _on_thread(
    thread: LoopThread, coroutine: Coroutine[Any, Any, None], patience_s: float
) -> bool:
    """Await a coroutine on the thread's loop; False once that is silent for longer than this."""
    work = asyncio.wrap_future(thread.submit(coroutine))
    try:
        while not work.done() and thread.silent_s < max(patience_s, _LEAST_SILENCE_S):
            await asyncio.wait([work], timeout=0.1)
        if work.done():
            work.result()
            return True
        return False
    finally:
        work.cancel()


async def _await_all(
    reward: BoundReward, items: Sequence[Any], deadline_s: float, found: list[Outcome | None]
) -> None:
    """Await one coroutine per item, at most AT_ONCE at a time, or one for the batch, with the time
    that its samples would get in rounds of AT_ONCE. Results go into `found` as they come."""
    invoke = reward.call.invoke
    if reward.call.batched:
        rounds = max(1, -(-len(items) // AT_ONCE))
        batch = await _timed(invoke(items), deadline_s * rounds)
        found[:] = _split_batch(batch, len(items), reward.spec.name)
        return
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(index: int, item: Any) -> None:
        async with limit:
            late = [o for o in found if o is not None]
            if len(late) >= GIVE_UP_AFTER and all(o.kind == "timeout" for o in late):
                found[index] = not_run()
                return
            found[index] = await _timed(invoke(item), deadline_s)

    await asyncio.gather(*(one(i, item) for i, item in enumerate(items)))


async def _timed(awaitable: Any, deadline_s: float) -> Outcome:
    start = time.perf_counter()
    try:
        async with asyncio.timeout(deadline_s) as timer:
            value = await awaitable
        return Outcome("ok", value, time.perf_counter() - start)
    except BaseException as error:
        spent = time.perf_counter() - start
        if isinstance(error, TimeoutError) and timer.expired():
            return Outcome("timeout", f"cancelled after {spent:.2f} s", spent)
        if not _is_of_user(error):
            raise
        return Outcome("error", with_place(error), spent)


def _is_of_user(error: BaseException) -> bool:
    """False for Ctrl-C, which the main thread gets, and for a task that the run cancels."""
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is not threading.main_thread()
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return not isinstance(error, GeneratorExit)


async def _run_inline(call: Call, items: Sequence[Any]) -> list[Outcome]:
    outcomes = []
    for index, item in enumerate(items):
        if index % 256 == 255:
            await asyncio.sleep(0)  # let other coroutines in
        start = time.perf_counter()
        try:
            value = call.invoke(item)
        except Exception as error:
            outcomes.append(Outcome("error", with_place(error), math.nan))
        else:
            outcomes.append(Outcome("ok", value, time.perf_counter() - start))
    return outcomes


def _split_batch(batch: Outcome, count: int, name: str) -> list[Outcome]:
    if batch.kind != "ok":
        return [batch] * count
    try:
        values = list(batch.value)
    except TypeError:
        raise RewardError(f"reward {name!r} returned {batch.value!r}: needs a list") from None
    if len(values) != count:
        raise RewardError(f"reward {name!r} returned {len(values)} scores for {count} samples")
    return [Outcome("ok", value, batch.seconds / max(1, count)) for value in values]


def _check_in_time(name: str, outcomes: Sequence[Outcome], deadline_s: float) -> None:
    """Raise RewardError if no sample was in time, one of a first call with its longer limit too."""
    timeouts = [o for o in outcomes if o.kind == "timeout"]
    slow = [o for o in outcomes if o.kind == "ok" and o.seconds > deadline_s]
    count = len(outcomes)
    if count < 2 or len(timeouts) + len(slow) < count or 2 * len(timeouts) < count:
        return
    skipped = sum(math.isnan(o.seconds) for o in timeouts)
    notes = [f"stopped after the first {count - skipped}"] if skipped else []
    notes += [BLOCKS] if timeouts[0].value == BLOCKS else []
    raise RewardError(
        f"reward {name!r}: all {count} samples passed deadline_s = {deadline_s:g}; raise "
        f"rewards.{name}.deadline_s or make it faster" + (f" ({'; '.join(notes)})" if notes else "")
    )
