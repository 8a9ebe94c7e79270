"""A request to end a run: after the step, at once, or by ending the process."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlnorm.trainers import stop as module
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.parts import parts_of
from rlnorm.trainers.record.run_dir import RunDir
from rlnorm.trainers.stop import Stop, descendants, signals_stop

SMALL = (
    *("steps=200", "data.eval={}", "data.train_limit=64", "rollout.prompts_per_step=4"),
    *("learner.minibatches=1", "checkpoint_every=0", "rewards.format.weight=1", "run_name=r"),
)
COMMAND = [sys.executable, "-m", "rlnorm.launch.cli", "train"]


def started(folder, *overrides, **options):
    """A run on its way: its second step is done."""
    command = [*COMMAND, "quickstart", *SMALL, f"output_dir={folder}", *overrides]
    process = subprocess.Popen(command, **options)
    metrics, deadline = folder / "r" / "metrics.jsonl", time.monotonic() + 240
    while not (metrics.exists() and len(read_jsonl(metrics)) >= 3):
        assert process.poll() is None
        assert time.monotonic() < deadline, "no second step within 240 s"
        time.sleep(0.02)
    return process


def resumed(folder, *overrides):
    config = f"{folder}/r/config.yaml"
    command = [*COMMAND, config, "--resume", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def ends(folder):
    return [(part.status, part.cause, part.step) for part in parts_of(RunDir(folder / "r"))]


def steps(folder):
    return [row["step"] for row in read_jsonl(folder / "r" / "metrics.jsonl")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_is_named_when_the_run_goes_on(tmp_path, number):
    process = started(tmp_path, stderr=subprocess.PIPE, text=True)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    done = steps(tmp_path)[-1]
    assert f"stopped and saved after step {done} of 200" in stderr
    assert ends(tmp_path) == [("stopped", number.name, done)]
    told = f"stopped after step {done} by {number.name}"
    assert told in (tmp_path / "r" / "report.html").read_text()
    shown = resumed(tmp_path, f"steps={done + 1}")
    assert f"continuing after step {done}: {told}" in shown
    assert "s of training in 2 parts, " in shown
    assert ends(tmp_path)[1:] == [("done", f"{done + 1} steps", done + 1)]
    assert steps(tmp_path) == list(range(done + 2))


def test_a_terminal_that_closes_does_not_lose_the_run(tmp_path):
    master, slave = pty.openpty()
    terminal = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
    process = started(tmp_path, **terminal)
    os.close(slave)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) in (1, 120, 130)  # its last line has nowhere to go
    [(status, cause, done)] = ends(tmp_path)
    assert (status, cause) == ("stopped", "SIGHUP")
    assert (tmp_path / "r" / "checkpoints" / f"step_{done:06d}").is_dir()


def test_an_end_that_nothing_recorded_is_told_and_recorded_when_the_run_goes_on(tmp_path):
    process = started(tmp_path, "checkpoint_every=1", stdout=subprocess.DEVNULL)
    process.kill()
    process.wait(timeout=60)
    last = steps(tmp_path)[-1]
    assert ends(tmp_path) == []
    shown = resumed(tmp_path, f"steps={last + 1}")
    assert f": how it ended after step {last} was not recorded (killed, a lost machine," in shown
    assert [status for status, _, _ in ends(tmp_path)] == ["not recorded", "done"]


BLOCKING = """
import pathlib, re, subprocess, time
begun, second = pathlib.Path({begun!r}), []
def blocks(rewards):
    if second:
        subprocess.Popen(["sleep", "60"])
        begun.touch()
        {body}
    second.append(1)
    return rewards.sum(1)
"""


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(100)",
        "re.match('(a+)+b', 'a' * 60)",  # holds the interpreter's lock, so no thread runs
        "while True:\n            try: time.sleep(100)\n            except BaseException: pass",
    ],
    ids=["sleeps", "searches", "ignores"],
)
def test_a_second_ctrl_c_ends_a_run_whose_own_code_blocks(tmp_path, body):
    begun = tmp_path / "begun"
    (tmp_path / "blocking.py").write_text(BLOCKING.format(begun=str(begun), body=body))
    estimator = f"algorithm={{name: grpo, estimator: '{tmp_path}/blocking.py:blocks'}}"
    command = [*COMMAND, "quickstart", *SMALL, f"output_dir={tmp_path}", estimator]
    errors = tmp_path / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
    deadline = time.monotonic() + 240
    while not begun.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline, "no second step within 240 s"
        time.sleep(0.02)
    children = descendants(process.pid)
    assert children
    for _ in range(2):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    assert process.wait(timeout=60) == 130
    assert time.monotonic() - sent < 5.5  # 5 s on a machine that is not loaded
    assert ends(tmp_path) == [("stopped at once", "Ctrl-C", 1)]
    assert "stopped at once: steps after the last checkpoint are lost" in errors.read_text()
    if "except" in body:  # ended by force, and so are the processes that it started
        assert all(_state(pid) in ("Z", None) for pid in children)


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None


def handlers():
    return [signal.getsignal(number) for number in module.NAMES]


def test_handlers_are_restored_and_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        there, stop = handlers(), Stop(print)
        with signals_stop(stop):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
            assert stop.cause is None
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            assert (stop.cause, stop.at_once) == ("SIGTERM", True)  # nothing has begun
        assert handlers() == there
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("step_s", "kept"), [(0.1, "a step"), (60.0, None)])
async def test_a_step_that_takes_longer_than_the_grace_is_left_out(monkeypatch, step_s, kept):
    monkeypatch.setattr(module, "GRACE_S", 0.5)
    left, shown = [], []

    async def step():
        try:
            await asyncio.sleep(step_s)
        finally:
            left.append(step_s)
        return "a step"

    stop = Stop(shown.append)
    stop.watch()
    stop.promise = "saving"
    stop.ask("SIGTERM")
    assert await stop.unless_overdue(step()) == kept
    assert left == [step_s]
    assert shown == ["SIGTERM: saving; press Ctrl-C again to stop at once"]
    assert (stop.cause, stop.at_once) == ("SIGTERM", False)
