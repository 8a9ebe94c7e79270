"""Ends a run on Ctrl-C, SIGTERM or SIGHUP: at the first after its step, at the second at once."""

import asyncio
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
GRACE_S = 20.0
"""A step that is still sampling so long after a request to stop is left out: many schedulers kill a
job 30 s after SIGTERM."""
AT_ONCE_S = 4.0
"""How long an orderly end may take after the second request; then the process ends itself."""
STATUS = 130


class Stop:
    """Requests to end a run. `ask` may be called from any thread, all else from the run's."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """note: shows one line to the user."""
        self.cause: str | None = None
        """The first request: Ctrl-C, SIGTERM or SIGHUP."""
        self.at_once = False
        self.promise: str | None = None
        """What the run still does after a first request; None: it ends at once."""
        self.last_words: Callable[[], str] = lambda: "stopped at once"
        """Called if the run has to be cut off: records its end and returns one line for stderr."""
        self._note, self._timer = note, threading.Timer(AT_ONCE_S, self._cut_off)
        self._timer.daemon = True
        self._children = descendants(os.getpid())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._thread: int | None = None
        self._asked, self._broken_off, self._forced = asyncio.Event(), False, False

    def watch(self) -> None:
        """Stop the current task; called when it begins."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._thread = threading.get_ident()
        if self.at_once:  # asked before it began
            self._cancel()

    def ask(self, cause: str) -> None:
        """End the run after its step; at a second call, or before training begins, at once."""
        first, self.cause = self.cause is None, self.cause or cause
        if first and self.promise is not None:
            self._soon(self._announce)
            return
        if not first and not self._forced:
            self._forced = True
            # for code that holds Python's lock, so that the timer cannot run
            faulthandler.dump_traceback_later(AT_ONCE_S + 0.7, exit=True, file=_nowhere())
            self._timer.start()
        if not self.at_once:
            self.at_once = True
            self._soon(self._cancel)

    def break_off(self) -> None:
        """Leave the code of a task that blocks the main thread, once the run is to end at once."""
        time.sleep(0.02)  # lets the thread that reads signals run: the code may hold Python's lock
        here = self._loop is not None and self._thread == threading.get_ident()
        busy = here and asyncio.current_task(self._loop) is not None
        if self.at_once and busy and not self._broken_off:
            self._broken_off = True
            raise asyncio.CancelledError

    async def unless_overdue(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The result of `work`; None if it is not there GRACE_S after a request to stop."""
        tasks = asyncio.ensure_future(work), asyncio.ensure_future(self._overdue())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def ended(self) -> None:
        """The run has ended by itself."""
        self._timer.cancel()
        if self._forced:
            faulthandler.cancel_dump_traceback_later()

    async def _overdue(self) -> None:
        await self._asked.wait()
        await asyncio.sleep(GRACE_S)

    def _announce(self) -> None:
        self._asked.set()
        self._note(f"{self.cause}: {self.promise}; press Ctrl-C again to stop at once")

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _soon(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has just closed: the run has ended
                self._loop.call_soon_threadsafe(call)

    def _cut_off(self) -> None:
        """End the process and the processes that it started since this run began."""
        try:
            os.write(2, f"rlnorm: {self.last_words()}\n".encode())
        finally:
            for pid in descendants(os.getpid()) - self._children:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            os._exit(STATUS)


@contextmanager
def signals_stop(stop: Stop) -> Iterator[None]:
    """Pass the signals of this block to `stop`; outside the main thread nothing is changed.

    A thread reads them, because Python's handlers wait until the main thread returns from a
    library's code. The handlers serve to leave a user's code that blocks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    terminals = [fd for fd in (1, 2) if os.isatty(fd)]
    thread = threading.Thread(target=_pass_on, args=(reader, stop, terminals), daemon=True)
    thread.start()
    # a run under nohup goes on when its terminal closes
    handled = [s for s in NAMES if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN]
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda *_: stop.break_off()) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        thread.join()
        os.close(reader)
        stop.ended()


def restore_handlers() -> None:
    """Install Python's handlers again in the main thread, where a library has put its own over
    them: that of Ray for SIGTERM aborts the process 3 s later."""
    if threading.current_thread() is threading.main_thread():
        for number in NAMES:
            if (handler := signal.getsignal(number)) is not None:
                signal.signal(number, handler)


def _pass_on(reader: int, stop: Stop, terminals: list[int]) -> None:
    while numbers := os.read(reader, 64):
        for number in numbers:
            if number == signal.SIGHUP:
                for fd in terminals:  # gone: writing to it would end the run before it has saved
                    os.dup2(_nowhere(), fd)
            if number in NAMES:
                stop.ask(NAMES[signal.Signals(number)])


def _nowhere() -> int:
    return os.open(os.devnull, os.O_WRONLY)


def descendants(pid: int) -> Set[int]:
    """Ids of the processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            # the name, in brackets, may hold spaces and brackets itself
            parent = int(entry.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found, todo = set[int](), [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found |= {*below}
        todo += below
    return found
