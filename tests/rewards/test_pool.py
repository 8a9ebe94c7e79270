import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.pool import WorkerPool
from rlnorm.rewards.types import Sample

USER_CODE = Path(__file__).parent / "user_code"


@pytest.fixture(autouse=True)
def _user_code(monkeypatch):
    monkeypatch.syspath_prepend(str(USER_CODE))


def sample(text, **meta):
    return Sample(id=text, group="g", completion=text, meta=meta)


async def run_map(pool, function, texts, **kwargs):
    call = pool.register(function)
    return await pool.map(call, [sample(t) for t in texts], **kwargs)


def use_pool(texts, function="my_rewards:behaves", deadline_s=1.0, **options):
    pool = WorkerPool(options.pop("workers", 2), **options)
    children = set(psutil.Process().children(recursive=True))
    try:
        return asyncio.run(run_map(pool, function, texts, deadline_s=deadline_s))
    finally:
        pool.close()
        assert pool.pids() == []
        assert set(psutil.Process().children(recursive=True)) <= children


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_for_any_worker_count(workers):
    texts = ["x" * (i % 7) for i in range(101)]
    outcomes = use_pool(texts, workers=workers)
    assert [o.value for o in outcomes] == [float(i % 7) for i in range(101)]


def test_only_the_guilty_item_is_marked():
    outcomes = use_pool(["a", "hang", "bb", "die", "ccc", "eat", "dddd"], deadline_s=0.7, workers=1)
    kinds = [o.kind for o in outcomes]
    assert kinds == ["ok", "timeout", "ok", "died", "ok", "memory", "ok"]
    assert [o.value for o in outcomes[::2]] == [1.0, 2.0, 3.0, 4.0]
    assert 0.7 <= outcomes[1].seconds < 2.0
    assert "exit code 3" in outcomes[3].value


def test_what_is_no_exception_to_python_is_one_to_the_pool():
    texts = ["pid", "interrupt", "exit", "pid"]
    first, interrupted, exited, last = use_pool(texts, workers=1)
    assert (interrupted.kind, exited.kind) == ("error", "error")
    assert re.fullmatch(
        r"KeyboardInterrupt: of its own \(\S+my_rewards\.py, line \d+\)", interrupted.value
    )
    assert re.fullmatch(r"SystemExit: gives up \(\S+my_rewards\.py, line \d+\)", exited.value)
    assert first.value == last.value  # the same worker goes on


def test_the_rest_of_a_chunk_goes_to_the_next_worker():
    # one worker, chunks of two: each chunk loses its first item and must keep its second
    outcomes = use_pool(["hang", "a", "die", "bb", "ccc"], deadline_s=0.5, workers=1)
    assert [o.kind for o in outcomes] == ["timeout", "ok", "died", "ok", "ok"]
    assert [outcomes[i].value for i in (1, 3, 4)] == [1.0, 2.0, 3.0]


def test_start_up_does_not_count_against_the_deadline():
    # a worker needs longer than this to import anything
    [outcome] = use_pool(["a"], deadline_s=0.05)
    assert outcome.kind == "ok"


def test_the_whole_process_group_is_killed(tmp_path):
    file = tmp_path / "pids"

    async def run():
        pool = WorkerPool(1)
        call = pool.register("my_rewards:spawns")
        try:
            return await pool.map(call, [sample("x", file=str(file))], deadline_s=0.5)
        finally:
            pool.close()

    [outcome] = asyncio.run(run())
    assert outcome.kind == "timeout"
    [pid, group] = map(int, file.read_text().split())
    assert pid == group
    left = [p.pid for p in psutil.process_iter() if _group(p.pid) == group]
    deadline = time.monotonic() + 5
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [p.pid for p in psutil.process_iter() if _group(p.pid) == group]
    assert left == []


def _group(pid):
    try:
        status = psutil.Process(pid).status()
        return None if status == psutil.STATUS_ZOMBIE else os.getpgid(pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


def test_workers_are_recycled_by_count():
    pids = {o.value for o in use_pool(["pid"] * 64, workers=1, recycle_items=8)}
    # 64 items in chunks of 16: every chunk is over the count, so each has its own worker
    assert len(pids) == 4
    assert len({o.value for o in use_pool(["pid"] * 64, workers=1)}) == 1


def test_workers_are_recycled_by_memory():
    assert len({o.value for o in use_pool(["pid"] * 64, workers=1, recycle_rss_mb=1)}) == 4


def test_two_maps_share_the_workers():
    async def run():
        pool = WorkerPool(2)
        try:
            return await asyncio.gather(
                run_map(pool, "my_rewards:behaves", ["a"] * 40),
                run_map(pool, "my_rewards:length", ["bb"] * 40),
            )
        finally:
            pool.close()

    first, second = asyncio.run(run())
    assert {o.value for o in first} == {1.0}
    assert {o.value for o in second} == {2.0}


def test_works_in_a_thread_and_across_event_loops():
    pool, values = WorkerPool(1), []

    def work():
        values.extend(o.value for o in asyncio.run(run_map(pool, "my_rewards:length", ["abc"])))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=60)
    work()
    pool.close()
    assert values == [3.0, 3.0]


def test_a_slow_worker_does_not_hold_up_the_loop():
    async def run():
        pool, ticks = WorkerPool(1), 0
        task = asyncio.ensure_future(run_map(pool, "my_rewards:behaves", ["slow"] * 3))
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.02)
        pool.close()
        return ticks

    assert asyncio.run(run()) >= 10


def test_closing_ends_pending_work_with_an_error():
    async def run():
        pool = WorkerPool(1)
        task = asyncio.ensure_future(run_map(pool, "my_rewards:behaves", ["hang"], deadline_s=60.0))
        while not pool.pids():
            await asyncio.sleep(0.02)
        pool.close()
        pool.close()
        with pytest.raises(RewardError, match="closed"):
            await task
        with pytest.raises(RewardError, match="closed"):
            await run_map(pool, "my_rewards:behaves", ["a"])

    asyncio.run(run())


def test_a_function_that_cannot_be_loaded_says_why():
    with pytest.raises(RewardError, match="no 'missing'"):
        use_pool(["a"], function="my_rewards:missing")


def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    mark = tmp_path / "pid"
    script = (
        "import asyncio\n"
        "from rlnorm.rewards.pool import WorkerPool\n"
        "from rlnorm.rewards.types import Sample\n"
        "async def main():\n"
        "    pool = WorkerPool(1)\n"
        "    call = pool.register('my_rewards:marks_and_hangs')\n"
        f"    items = [Sample(id='x', group='g', completion='', meta={{'file': {str(mark)!r}}})]\n"
        "    await pool.map(call, items, deadline_s=600)\n"
        "asyncio.run(main())\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{USER_CODE}{os.pathsep}{os.getcwd()}"}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment)
    deadline = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    worker = int(mark.read_text())
    assert psutil.pid_exists(worker)
    parent.kill()
    parent.wait(timeout=10)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and time.monotonic() < deadline:
        if psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.05)
    alive = psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE
    assert not alive


def test_worker_count_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        WorkerPool(0)
