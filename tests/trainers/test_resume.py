"""Going on from a run directory that is not as it was left: told in one line, nothing is lost."""

import asyncio
import io
import shutil

import pytest
from rich.console import Console

from rlnorm.errors import InputError
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training

SMALL = (
    *("steps=3", "data.eval={}", "rollout.prompts_per_step=4", "rollout.max_tokens=8"),
    *("checkpoint_every=1", "keep_checkpoints=3", "run_name=r"),
)


def train(folder, *overrides, resume=False):
    config = load_config("quickstart", [*SMALL, f"output_dir={folder}", *overrides])
    quiet = Console(file=io.StringIO())
    return asyncio.run(run_training(config, Display(config.steps, quiet), resume=resume))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return train(tmp_path_factory.mktemp("finished")).path


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run, whose config names its own place."""
    shutil.copytree(finished, tmp_path / "r")
    path = tmp_path / "r" / "config.yaml"
    path.write_text(path.read_text().replace(str(finished.parent), str(tmp_path)))
    return tmp_path / "r"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("trainer_state/learner.pt", "cut", r"cannot be loaded .*step_000001, step_000002"),
        ("trainer_state/loop.json", "{", r"step_000003 cannot be loaded .*JSONDecodeError"),
        ("trainer_state/loop.json", None, r"step_000003 cannot be loaded .*FileNotFoundError"),
        ("../../config.yaml", "a: [", r"config .*config.yaml: line 1"),
        ("../../capsule.json", "{", r"capsule.json is damaged"),
        ("../../metrics.jsonl", "garbage\n", r"metrics.jsonl line 1 is damaged"),
        ("../latest", "step_000099\n", r"latest names step_000099, which is missing"),
    ],
)
def test_a_damaged_file_is_named_and_what_was_trained_stays(run, file, text, message):
    damaged = run / "checkpoints" / "step_000003" / file
    damaged.unlink() if text is None else damaged.write_text(text)
    before = sorted(path for path in run.rglob("*") if path.is_file())
    with pytest.raises(InputError, match=message) as caught:
        train(run.parent, "steps=4", resume=True)
    assert "\n" not in str(caught.value)
    assert [path for path in before if not path.is_file()] == []


@pytest.mark.parametrize(("latest", "first"), [("step_000001\n", 2), (None, 4)])
def test_a_run_goes_on_from_what_latest_names_or_else_from_the_newest(run, latest, first):
    path = run / "checkpoints" / "latest"
    path.unlink() if latest is None else path.write_text(latest)
    kept = (run / "rollouts" / f"step_{first - 1:06d}.parquet").stat().st_mtime_ns
    train(run.parent, "steps=4", resume=True)
    assert [row["step"] for row in read_jsonl(run / "metrics.jsonl")] == [0, 1, 2, 3, 4]
    events = read_jsonl(run / "events.jsonl")
    assert {"event": "resumed", "step": first - 1} in events
    assert [(e["step"], e["status"]) for e in events if e["event"] == "ended"] == [
        (3, "done"),
        (4, "done"),
    ]
    assert (run / "rollouts" / f"step_{first - 1:06d}.parquet").stat().st_mtime_ns == kept
