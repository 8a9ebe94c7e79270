"""The loop of users' coroutines: it may be blocked, and it keeps no process alive."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from rlnorm.rewards.loop_thread import LoopThread


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def where():
    return threading.current_thread().name


async def to_thread():
    return await asyncio.to_thread(lambda x: x + 1, 1)


async def fails():
    await asyncio.to_thread(int, "x")


def test_coroutines_run_on_its_own_loop_and_to_thread_works():
    thread = LoopThread("of-a-test")
    assert thread.submit(where()).result(10) == "of-a-test"
    assert thread.submit(to_thread()).result(10) == 2
    with pytest.raises(ValueError, match="invalid literal"):
        thread.submit(fails()).result(10)
    thread.stop()
    assert "of-a-test" not in {t.name for t in threading.enumerate()}


def test_it_knows_for_how_long_it_has_been_blocked():
    thread, release = LoopThread("blocked"), threading.Event()

    async def blocks():
        release.wait(30)

    assert thread.silent_s < 1.0
    work = thread.submit(blocks())
    wait_until(lambda: thread.silent_s > 0.5)
    release.set()
    work.result(10)
    wait_until(lambda: thread.silent_s == 0.0)
    thread.stop()


def test_what_still_runs_is_cancelled_when_it_stops():
    thread, ended = LoopThread("stopped"), threading.Event()

    async def waits():
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    thread.submit(waits())
    thread.submit(where()).result(10)
    thread.stop()
    assert ended.is_set()


def test_neither_the_loop_nor_its_threads_keep_the_process_alive():
    code = (
        "import asyncio, time\n"
        "from rlnorm.rewards.loop_thread import LoopThread\n"
        "async def blocks(): time.sleep(600)\n"
        "async def waits(): await asyncio.to_thread(time.sleep, 600)\n"
        "for coroutine in (waits, blocks):\n"
        "    LoopThread('x').submit(coroutine())\n"
        "time.sleep(0.5)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started < 30
