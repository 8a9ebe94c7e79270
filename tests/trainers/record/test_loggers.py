"""W&B and TensorBoard really write, and a logger that breaks or hangs hurts nothing."""

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.record.loggers import Loggers, LoggerThread

ROWS = [{"step": 1, "loss": 0.5, "policy/entropy": None}, {"step": 2, "loss": 0.25}]


def config(**logging):
    overrides = [f"logging.{name}={value}" for name, value in logging.items()]
    return load_config("quickstart", overrides)


def test_tensorboard_gets_the_numbers_and_the_table(tmp_path):
    loggers = Loggers(config(tensorboard="true"), tmp_path)
    for row in ROWS:
        loggers.log(row["step"], row)
    loggers.table(2, ("prompt", "completion"), [("1+1 ?", "2")])
    loggers.close()
    assert loggers.failures == []
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert "policy/entropy" not in events.Tags()["scalars"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_an_offline_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    loggers = Loggers(config(wandb="proj"), tmp_path)
    for row in ROWS:
        loggers.log(row["step"], row)
    loggers.table(2, ("prompt", "completion"), [("1+1 ?", "2")])
    loggers.close()
    assert loggers.failures == []
    [run] = (tmp_path / "wandb").glob("offline-run-*")
    [data] = run.glob("*.wandb")
    until = time.monotonic() + 10  # wandb's own process writes it a little after `finish` returns
    while data.stat().st_size <= 500 and time.monotonic() < until:
        time.sleep(0.01)
    assert data.stat().st_size > 500


@pytest.mark.filterwarnings("ignore")
def test_a_sink_that_cannot_start_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "no-such-mode")
    loggers = Loggers(config(wandb="proj", tensorboard="true"), tmp_path)
    loggers.log(1, ROWS[0])
    loggers.close()
    assert len(loggers.failures) == 1
    assert loggers.failures[0].startswith("wandb: ")
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_sink_that_fails_is_dropped_with_one_warning(tmp_path, caplog):
    loggers = Loggers(config(tensorboard="true"), tmp_path)
    for step in range(1, 6):
        loggers.log(step, {"loss": "no number"})
    loggers.close()
    assert len(loggers.failures) == 1
    assert loggers.failures[0].startswith("tensorboard: ")
    assert [r.message for r in caplog.records if r.name == "rlnorm.trainers.record.loggers"] == [
        f"metric logger {loggers.failures[0]}; it is no longer used"
    ]


class SlowLogger:
    """Writes when it is let."""

    def __init__(self) -> None:
        self.may_go_on, self.steps = threading.Event(), []

    def log(self, step, row) -> None:
        assert self.may_go_on.wait(30)
        self.steps.append(step)

    def table(self, step, columns, rows) -> None:
        pass

    def close(self) -> None:
        self.steps.append("closed")


@pytest.mark.parametrize(("rows", "kept"), [(4, True), (40, False)])
def test_a_slow_sink_delays_nobody_and_is_dropped_once_too_far_behind(rows, kept):
    logger = SlowLogger()
    thread = LoggerThread("slow", lambda: logger, queue_rows=8)
    start = time.monotonic()
    for step in range(rows):
        thread.put(lambda logger, step=step: logger.log(step, {}))
    thread.put(None)
    assert time.monotonic() - start < 5
    logger.may_go_on.set()
    thread.join(30)
    if kept:
        assert logger.steps == [*range(rows), "closed"]
        assert thread.failure is None
    else:
        assert "closed" not in logger.steps
        assert thread.failure == "slow: too slow: 8 rows are waiting"


SILENT = """
import pathlib, sys
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.record import loggers
loggers.CLOSE_DEADLINE_S = 3.0
loggers = loggers.Loggers(load_config("quickstart", ["logging.wandb=p"]), pathlib.Path.cwd())
loggers.log(1, {"loss": 0.5})
loggers.close()
print(*loggers.failures)
"""


@pytest.mark.slow
def test_a_server_that_never_answers_does_not_keep_the_process_alive(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "x" * 40, "WANDB_MODE": "online"}
        env |= {"WANDB_SILENT": "true", "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", SILENT],
            cwd=tmp_path,
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wandb: did not finish within 3 s\n"
