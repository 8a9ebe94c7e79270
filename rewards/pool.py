"""Killable worker processes, one socket each; the parent alone holds the deadlines.

    map() --chunks--> queue --_assign--> worker --one outcome per item--> _receive --> map()

One dispatcher thread waits on all sockets (it does no scoring). When an item's deadline passes, the
worker's process group gets SIGKILL, only that item is marked, and the rest of its chunk goes back
to the head of the queue. It installs no signal handlers and no event loop, so it works in the main
thread, in other threads, under asyncio and inside actors.
"""

import asyncio
import contextlib
import json
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, Protocol

from rlnorm.rewards.errors import RewardError

_BOOT = (
    "import sys, json; a = json.loads(sys.argv[1]); sys.path[:] = a['path'];"
    "from rlnorm.rewards.worker import main; main(a['fd'], a['parent'], a['memory'])"
)
_SOCKET_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one item."""

    kind: Literal["ok", "error", "memory", "timeout", "died"]
    value: Any
    """The function's return value, or an error message."""
    seconds: float


class Pool(Protocol):
    """The workers that rewards use, on this machine (WorkerPool) or on others."""

    remote: bool
    """True if the workers are on other machines, where sandboxed programs then run too."""

    def register(self, function: str | bytes, options: Mapping[str, Any] | None = None) -> int:
        """Register a function ("module:name" or pickled); returns its id for map()."""
        ...

    async def map(
        self, call: int, items: Sequence[Any], *, deadline_s: float | None = None, chunk: int = 32
    ) -> list[Outcome]:
        """One Outcome per item, in order; deadline_s is per item, chunk the most sent at once."""
        ...

    def close(self) -> None:
        """End every worker and wait until they have ended. May be repeated."""
        ...


@dataclass(eq=False, slots=True)
class _Chunk:
    call: int
    items: Sequence[Any]
    deadline_s: float
    future: "Future[list[Outcome]]" = field(default_factory=Future)
    outcomes: list[Outcome] = field(default_factory=list)
    load_attempts: int = 0


@dataclass(eq=False, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    conn: Connection
    calls: set[int] = field(default_factory=set)
    chunk: _Chunk | None = None
    loading: bool = False
    started: float = 0.0
    """When the current item (or load) began."""
    served: int = 0


def _outcome(kind: Any, data: bytes, seconds: float) -> Outcome:
    try:
        return Outcome(kind, pickle.loads(data), seconds)
    except Exception as error:  # unpickling runs the value's own code
        why = f"the returned value does not unpickle: {type(error).__name__}: {error}"
        return Outcome("error", why, seconds)


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
        self._memory_bytes = memory_mb << 20
        self._recycle_items, self._recycle_rss = recycle_items, recycle_rss_mb << 20
        self._start_deadline_s = start_deadline_s
        self._definitions: list[tuple[str | bytes, dict[str, Any]]] = []
        self._queue: deque[_Chunk] = deque()
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
        self, call: int, items: Sequence[Any], *, deadline_s: float | None = None, chunk: int = 32
    ) -> list[Outcome]:
        """One Outcome per item, in order. Raises RewardError when the function cannot be loaded."""
        deadline = self.deadline_s if deadline_s is None else deadline_s
        size = max(1, min(chunk, -(-len(items) // (4 * self.workers))))
        window = 4 * self.workers
        done: list[Future[list[Outcome]]] = []
        try:
            for part in (items[i : i + size] for i in range(0, len(items), size)):
                # bounds the queue: at most `window` chunks of a caller wait at once
                if len(done) >= window:
                    await asyncio.wrap_future(done[len(done) - window])
                done.append(self._submit(_Chunk(call, part, deadline)))
            return [outcome for f in done for outcome in await asyncio.wrap_future(f)]
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

    def _submit(self, chunk: _Chunk) -> "Future[list[Outcome]]":
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
            yield self._start_worker()

    def _next_chunk(self) -> _Chunk | None:
        with self._lock:
            while self._queue:
                chunk = self._queue.popleft()
                if not chunk.future.cancelled():
                    return chunk
        return None

    def _give(self, worker: _Worker, chunk: _Chunk) -> None:
        known = chunk.call in worker.calls
        definition = None if known else self._definitions[chunk.call]
        worker.chunk, worker.loading, worker.started = chunk, True, time.monotonic()
        rest = chunk.items[len(chunk.outcomes) :]
        try:
            # by value: send() would pass a tensor as shared memory that the worker cannot open
            worker.conn.send_bytes(pickle.dumps(("run", chunk.call, definition, list(rest))))
        except OSError as error:
            self._lost(worker, f"could not send to the worker: {error}")
        except Exception as error:  # pickle of a user's object can raise anything
            worker.chunk = None
            self._fail(chunk, f"samples or function do not pickle: {error!r}")
        worker.calls.add(chunk.call)

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
            worker.calls.discard(chunk.call)
            self._fail(chunk, f"the reward could not be loaded in a worker: {message[1]}")
        elif message[0] == "item":
            chunk.outcomes.append(_outcome(*message[1:]))
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
        return worker.chunk.deadline_s

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
                chunk.outcomes.append(Outcome("timeout", f"killed after {spent:.2f} s", spent))
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
            chunk.outcomes.append(Outcome("died", why, spent))
        self._requeue(chunk)

    def _requeue(self, chunk: _Chunk) -> None:
        if len(chunk.outcomes) == len(chunk.items):
            self._finish(chunk)
            return
        with self._lock:
            self._queue.appendleft(chunk)

    def _finish(self, chunk: _Chunk) -> None:
        if chunk.future.set_running_or_notify_cancel():
            chunk.future.set_result(chunk.outcomes)

    def _fail(self, chunk: _Chunk, why: str) -> None:
        if chunk.future.set_running_or_notify_cancel():
            chunk.future.set_exception(RewardError(why))

    def _start_worker(self) -> _Worker:
        ours, child = socket.socketpair()
        limit = struct.pack("ll", int(_SOCKET_TIMEOUT_S), 0)
        # a stuck child must not block the dispatcher in the middle of a message
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        fd = child.fileno()
        boot = {"path": sys.path, "fd": fd, "parent": os.getpid(), "memory": self._memory_bytes}
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(boot)],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=2,  # a print in a reward must not mix with our output
            env=environment,
            start_new_session=True,
        )
        child.close()
        worker = _Worker(process, Connection(ours.detach()))
        self._pool.append(worker)
        return worker

    def _kill(self, worker: _Worker) -> int | None:
        if worker in self._pool:
            self._pool.remove(worker)
            with contextlib.suppress(ProcessLookupError):  # the group is gone already
                os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait(timeout=10)
            worker.conn.close()
        return worker.process.returncode
