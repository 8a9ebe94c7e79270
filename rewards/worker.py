"""The child process of rlnorm.rewards.pool: takes chunks of items from a socket, answers each.

Started as its own session, so that the parent can kill the entire process group. It never outlives
the parent: the socket closes, and on Linux the kernel kills it when the parent's thread ends.
"""

import ctypes
import inspect
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from rlnorm.errors import InputError, with_place
from rlnorm.lookup import load_object

_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _rss_bytes() -> int:
    if sys.platform == "linux":
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def load_function(function: str | bytes) -> Any:
    """A reward from what the pool was given: "module:name", or a pickled object."""
    if isinstance(function, bytes):
        return pickle.loads(function)
    return load_object(function, "function")


def _load(function: str | bytes, options: dict[str, Any]) -> Callable[[Any], Any]:
    from rlnorm.rewards.calls import build_call

    call = build_call(load_function(function), options, "reward")
    warm = getattr(call.target, "warm", None)
    if warm is not None:
        warm()
    return call.invoke


def _run_item(invoke: Callable[[Any], Any], item: Any) -> tuple[str, Any, float]:
    start = time.perf_counter()
    try:
        value: Any = invoke(item)
        kind = "ok"
        if inspect.iscoroutine(value):
            value.close()
            kind, value = "error", "it returned a coroutine: write `async def`"
        elif inspect.isgenerator(value) or inspect.isasyncgen(value):
            kind, value = "error", "it returned a generator: return a number, or a list for samples"
    except MemoryError:
        limit_mb = resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20
        kind, value = "memory", f"a worker passed memory_mb = {limit_mb}"
    except BaseException as error:  # a KeyboardInterrupt or SystemExit here is the reward's own
        kind, value = "error", with_place(error)
    return kind, value, time.perf_counter() - start


def _send(conn: Connection, outcome: tuple[str, Any, float]) -> None:
    kind, value, seconds = outcome
    try:
        # by value: send() would pass a tensor as shared memory that the parent cannot open
        data = pickle.dumps(value)
    except Exception as error:  # pickle runs the value's own code
        kind, data = "error", pickle.dumps(f"the returned value does not pickle: {error}")
    conn.send(("item", kind, data, seconds))


def serve(conn: Connection) -> None:
    """Answer ("run", call id, (function, options) or None, items) until the socket closes."""
    calls: dict[int, Callable[[Any], Any]] = {}
    while True:
        try:
            _, call_id, definition, items = conn.recv()
        except EOFError:
            return
        if definition is not None:
            try:
                calls[call_id] = _load(*definition)
            except (
                BaseException
            ) as error:  # a user's module runs here; the parent raises with this text
                ours = isinstance(error, InputError)
                conn.send(("load_error", str(error) if ours else with_place(error)))
                continue
        conn.send(("loaded",))
        for item in items:
            _send(conn, _run_item(calls[call_id], item))
        conn.send(("rss", _rss_bytes()))


def main(fd: int, parent: int, memory_bytes: int) -> None:
    """Entry point of the child."""
    _die_with_parent(parent)
    # limits data, not address space: a CUDA build of torch maps gigabytes of libraries
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(3000)
    try:
        serve(Connection(fd))
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
