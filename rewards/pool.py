"""Killable worker processes, one socket each; the parent alone holds the deadlines.

    map() --chunks--> queue --_assign--> worker --one outcome per item--> _receive --> map()

One dispatcher thread waits on all sockets (it does no scoring). When an item's deadline passes, the
worker's process group gets SIGKILL, only that item is marked, and the rest of its chunk goes back
to the head of the queue. It installs no signal handlers and no event loop, so it works in the main
thread, in other threads, under asyncio and inside actors.
"""

import asyncio
import math
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.outcome import Batch, Chunk, Outcome, not_run, read_outcome
from rlnorm.rewards.process import Process

GIVE_UP_AFTER = 8
"""Samples of a batch, none of them in time, after which the others are not run."""
_LATER_FIRST_CALL_S = 10.0


class Pool(Protocol):
    """The workers that rewards use, on this machine (WorkerPool) or on others."""

    remote: bool
    """True if the workers are on other machines, where sandboxed programs then run too."""

    def register(self, function: str | bytes, options: Mapping[str, Any] | None = None) -> int:
        """Register a function ("module:name" or pickled); returns its id for map()."""
        ...

    async def map(
        self,
        call: int,
        items: Sequence[Any],
        *,
        deadline_s: float | None = None,
        first_s: float = 0.0,
        give_up_after: int | None = None,
        chunk: int = 32,
    ) -> list[Outcome]:
        """One Outcome per item, in order; deadline_s is per item, chunk the most sent at once.

        first_s: a longer limit of a worker's first item, which may import and load. After another
        worker's first item it is three times what that took. give_up_after: once that many items
        have ended and each passed deadline_s, the others are not run.
        """
        ...

    def close(self) -> None:
        """End every worker and wait until they have ended. May be repeated."""
        ...


@dataclass(eq=False, slots=True)
class _Worker:
    process: Process
    calls: set[int] = field(default_factory=set)
    warm: set[int] = field(default_factory=set)
    """The calls that have finished an item."""
    chunk: Chunk | None = None
    loading: bool = False
    started: float = 0.0
    """When the current item (or load) began."""
    served: int = 0

    @property
    def conn(self) -> Connection:
        return self.process.conn


class WorkerPool:
    """Runs registered functions on items in child processes, in order, each under a deadline."""

    remote = False

    def __init__(
        self,
        workers: int = 2,
        *,
        deadline_s: float = 2.0,
        memory_mb: int = 3072,
        recycle_items: int = 20_000,
        recycle_rss_mb: int = 1024,
        start_deadline_s: float = 120.0,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers = {workers}: needs at least 1")
        self.workers = workers
        self.deadline_s = deadline_s
        self.memory_mb = memory_mb
        self._recycle_items, self._recycle_rss = recycle_items, recycle_rss_mb << 20
        self._start_deadline_s = start_deadline_s
        self._definitions: list[tuple[str | bytes, dict[str, Any]]] = []
        self._first_s: dict[int, float] = {}
        """Longest first item of a worker, by call; NaN if only unfinished ones are known."""
        self._queue: deque[Chunk] = deque()
        self._pool: list[_Worker] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake_read, self._wake_write = -1, -1
        self._closed = False
        self.killed = 0
        """Workers killed at a deadline so far."""

    def register(self, function: str | bytes, options: Mapping[str, Any] | None = None) -> int:
        """Register a function ("module:name" or pickled); returns its id for map()."""
        self._definitions.append((function, dict(options or {})))
        return len(self._definitions) - 1

    async def map(
        self,
        call: int,
        items: Sequence[Any],
        *,
        deadline_s: float | None = None,
        first_s: float = 0.0,
        give_up_after: int | None = None,
        chunk: int = 32,
    ) -> list[Outcome]:
        """See Pool.map. Raises RewardError when the function cannot be loaded."""
        deadline = self.deadline_s if deadline_s is None else deadline_s
        batch = Batch(call, deadline, first_s, give_up_after)
        window = 4 * self.workers
        count = max(-(-len(items) // chunk), min(len(items), window))
        done: list[Future[list[Outcome]]] = []
        found: list[Outcome] = [not_run()] * len(items)
        try:
            # a chunk takes items from all over the batch, so that the first to run differ
            for start in range(count):
                # bounds the queue: at most `window` chunks of a caller wait at once
                if len(done) >= window:
                    await asyncio.wrap_future(done[len(done) - window])
                done.append(self._submit(Chunk(batch, items[start::count])))
            for start, future in enumerate(done):
                outcomes = await asyncio.wrap_future(future)
                found[start::count] = outcomes
            return found
        finally:
            for future in done:
                future.cancel()

    def close(self) -> None:
        """Kill every worker and wait for it; pending work raises RewardError. May be repeated."""
        with self._lock:
            self._closed = True
            thread = self._thread
            if thread is not None:
                os.write(self._wake_write, b"x")
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=30)

    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        return [w.process.pid for w in list(self._pool)]

    def _submit(self, chunk: Chunk) -> "Future[list[Outcome]]":
        with self._lock:
            if self._closed:
                raise RewardError("the worker pool is closed")
            if self._thread is None:
                self._wake_read, self._wake_write = os.pipe()
                os.set_blocking(self._wake_write, False)
                self._thread = threading.Thread(
                    target=self._dispatch, name="rewards-pool", daemon=True
                )
                self._thread.start()
            self._queue.append(chunk)
            self._wake()
        return chunk.future

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            return  # the pipe is full of wake-ups already

    # Everything below runs in the dispatcher thread.

    def _dispatch(self) -> None:
        reason = "the worker pool was closed"
        try:
            while not self._closed:
                self._assign()
                conns = {w.conn: w for w in self._pool}
                ready = wait([self._wake_read, *conns], self._next_deadline())
                if self._wake_read in ready:
                    os.read(self._wake_read, 65536)
                for conn in ready:
                    if isinstance(conn, Connection):
                        self._receive(conns[conn])
                self._enforce_deadlines()
                self._give_up()
        except BaseException as error:
            reason = f"the worker pool's dispatcher failed: {error!r}"
            raise
        finally:
            self._shut_down(reason)

    def _shut_down(self, reason: str) -> None:
        with self._lock:
            self._closed = True
            left = list(self._queue) + [w.chunk for w in self._pool if w.chunk is not None]
            self._queue.clear()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._thread = None
        for worker in list(self._pool):
            self._kill(worker)
        for chunk in left:
            self._fail(chunk, reason)

    def _assign(self) -> None:
        for worker in self._idle():
            chunk = self._next_chunk()
            if chunk is None:
                return
            self._give(worker, chunk)

    def _idle(self) -> Iterator[_Worker]:
        yield from [w for w in self._pool if w.chunk is None]
        while len(self._pool) < self.workers and self._queue:
            self._pool.append(_Worker(Process(self.memory_mb << 20)))
            yield self._pool[-1]

    def _next_chunk(self) -> Chunk | None:
        with self._lock:
            while self._queue:
                chunk = self._queue.popleft()
                if chunk.batch.hopeless:
                    chunk.outcomes += [not_run()] * (len(chunk.items) - len(chunk.outcomes))
                    self._finish(chunk)
                elif not chunk.future.cancelled():
                    return chunk
        return None

    def _give(self, worker: _Worker, chunk: Chunk) -> None:
        call = chunk.batch.call
        definition = None if call in worker.calls else self._definitions[call]
        worker.chunk, worker.loading, worker.started = chunk, True, time.monotonic()
        rest = chunk.items[len(chunk.outcomes) :]
        try:
            # by value: send() would pass a tensor as shared memory that the worker cannot open
            worker.conn.send_bytes(pickle.dumps(("run", call, definition, list(rest))))
        except OSError as error:
            self._lost(worker, f"could not send to the worker: {error}")
        except Exception as error:  # pickle of a user's object can raise anything
            worker.chunk = None
            self._fail(chunk, f"samples or function do not pickle: {error!r}")
        worker.calls.add(call)

    def _receive(self, worker: _Worker) -> None:
        try:
            while worker in self._pool and worker.conn.poll():
                self._handle(worker, worker.conn.recv())
        except (EOFError, OSError):
            code = self._kill(worker)
            self._lost(worker, f"the worker died with exit code {code}")

    def _handle(self, worker: _Worker, message: tuple[Any, ...]) -> None:
        chunk = worker.chunk
        assert chunk is not None
        worker.started = time.monotonic()
        if message[0] == "loaded":
            worker.loading = False
        elif message[0] == "load_error":
            worker.chunk = None
            worker.calls.discard(chunk.batch.call)
            self._fail(chunk, f"the reward could not be loaded in a worker: {message[1]}")
        elif message[0] == "item":
            outcome = read_outcome(*message[1:])
            chunk.add(outcome)
            if chunk.batch.call not in worker.warm:
                worker.warm.add(chunk.batch.call)
                known = self._first_s.get(chunk.batch.call, math.nan)
                self._first_s[chunk.batch.call] = max(outcome.seconds, known)
        else:
            worker.chunk = None
            worker.served += len(chunk.items)
            self._finish(chunk)
            if worker.served >= self._recycle_items or message[1] >= self._recycle_rss:
                self._kill(worker)

    def _next_deadline(self) -> float | None:
        ends = [w.started + self._limit(w) for w in self._pool if w.chunk is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _limit(self, worker: _Worker) -> float:
        if worker.loading or worker.chunk is None:
            return self._start_deadline_s
        batch = worker.chunk.batch
        if not batch.first_s or batch.call in worker.warm:
            return batch.deadline_s
        limit = batch.first_s
        if (known := self._first_s.get(batch.call)) is not None:
            limit = min(limit, _LATER_FIRST_CALL_S if math.isnan(known) else 3 * known)
        return max(limit, batch.deadline_s)

    def _enforce_deadlines(self) -> None:
        for worker in list(self._pool):
            chunk = worker.chunk
            spent = time.monotonic() - worker.started
            # an answer already in the socket is in time, however late this thread runs
            if chunk is None or spent < self._limit(worker) or worker.conn.poll():
                continue
            loading = worker.loading
            self._kill(worker)
            if loading:
                self._lost(worker, f"the worker was not ready after {spent:.0f} s")
            elif len(chunk.outcomes) == len(chunk.items):
                self._finish(chunk)
            else:
                self.killed += 1
                if chunk.batch.call not in worker.warm:
                    self._first_s.setdefault(chunk.batch.call, math.nan)
                chunk.add(Outcome("timeout", f"killed after {spent:.2f} s", spent))
                self._requeue(chunk)

    def _give_up(self) -> None:
        for worker in list(self._pool):
            chunk = worker.chunk
            if chunk is not None and not worker.loading and chunk.batch.hopeless:
                worker.chunk = None
                self._kill(worker)
                self._requeue(chunk)

    def _lost(self, worker: _Worker, why: str) -> None:
        chunk, worker.chunk = worker.chunk, None
        self._kill(worker)
        if chunk is None:
            return
        if worker.loading:
            chunk.load_attempts += 1
            if chunk.load_attempts > 1:
                self._fail(chunk, why)
                return
        elif len(chunk.outcomes) < len(chunk.items):
            spent = time.monotonic() - worker.started
            chunk.add(Outcome("died", why, spent))
        self._requeue(chunk)

    def _requeue(self, chunk: Chunk) -> None:
        if len(chunk.outcomes) == len(chunk.items):
            self._finish(chunk)
            return
        with self._lock:
            self._queue.appendleft(chunk)

    def _finish(self, chunk: Chunk) -> None:
        if chunk.future.set_running_or_notify_cancel():
            chunk.future.set_result(chunk.outcomes)

    def _fail(self, chunk: Chunk, why: str) -> None:
        if chunk.future.set_running_or_notify_cancel():
            chunk.future.set_exception(RewardError(why))

    def _kill(self, worker: _Worker) -> int | None:
        if worker in self._pool:
            self._pool.remove(worker)
        return worker.process.kill()
