"""W&B and TensorBoard really write, and a sink that breaks hurts nothing."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainers.config import load_config
from trainers.sinks import Sinks

ROWS = [{"step": 1, "loss": 0.5, "policy/entropy": None}, {"step": 2, "loss": 0.25}]


def config(**logging):
    overrides = [f"logging.{name}={value}" for name, value in logging.items()]
    return load_config("quickstart", overrides)


def test_tensorboard_gets_the_numbers_and_the_table(tmp_path):
    sinks = Sinks(config(tensorboard="true"), tmp_path)
    for row in ROWS:
        sinks.log(row["step"], row)
    sinks.table(2, ("prompt", "completion"), [("1+1 ?", "2")])
    sinks.close()
    assert sinks.failures == []
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert "policy/entropy" not in events.Tags()["scalars"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_writes_an_offline_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    sinks = Sinks(config(wandb="proj"), tmp_path)
    for row in ROWS:
        sinks.log(row["step"], row)
    sinks.table(2, ("prompt", "completion"), [("1+1 ?", "2")])
    sinks.close()
    assert sinks.failures == []
    [run] = (tmp_path / "wandb").glob("offline-run-*")
    [data] = run.glob("*.wandb")
    assert data.stat().st_size > 500


@pytest.mark.filterwarnings("ignore")
def test_a_sink_that_cannot_start_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "no-such-mode")
    sinks = Sinks(config(wandb="proj", tensorboard="true"), tmp_path)
    sinks.log(1, ROWS[0])
    sinks.close()
    assert len(sinks.failures) == 1
    assert sinks.failures[0].startswith("wandb: ")
    assert list((tmp_path / "tensorboard").iterdir())
