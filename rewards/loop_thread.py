"""An event loop in a thread of its own, for the coroutines of users.

A coroutine that blocks (time.sleep, requests) stops this loop and no other: the run's own loop goes
on, sees how long this one has been silent, and leaves it behind.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_BEAT_S = 0.1


class LoopThread:
    """`thread.submit(coroutine)` from any thread. It does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_DaemonThreads())
        self._last_beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def silent_s(self) -> float:
        """Seconds for which a coroutine has kept the loop from doing anything else."""
        return max(0.0, time.monotonic() - self._last_beat - _BEAT_S)

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> "Future[Any]":
        """Run a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self, wait_s: float = 2.0) -> None:
        """End the loop, cancelling what runs on it; one that is blocked is left behind."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self.silent_s < wait_s:
            self._thread.join(wait_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        heart = self._loop.create_task(self._beat())
        self._loop.run_forever()
        heart.cancel()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _beat(self) -> None:
        while True:
            self._last_beat = time.monotonic()
            await asyncio.sleep(_BEAT_S)


class _DaemonThreads(ThreadPoolExecutor):
    """For asyncio.to_thread: a call that never returns must not keep the process alive."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future
