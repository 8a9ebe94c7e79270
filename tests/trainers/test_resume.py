"""Going on from a run directory that is not as it was left: told in one line, nothing is lost."""

import asyncio
import io
import re
import shutil

import pytest
import yaml
from rich.console import Console

from rlnorm import trainers
from rlnorm.errors import InputError
from rlnorm.trainers.config.file import override, read_table
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
        ("config.yaml", "a: [", r"--resume: .*step_000003/config.yaml: config .*: line 1"),
        ("../../capsule.json", "{", r"capsule.json is damaged"),
        ("../../metrics.jsonl", "garbage\n", r"metrics.jsonl line 1 is damaged"),
        ("../../metrics.jsonl", "null\n", r"metrics.jsonl line 1 is damaged: is a NoneType"),
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


def edited(run, *overrides):
    """The run's config.yaml with values changed in it, as `rlnorm train` reads it."""
    table = read_table(run / "config.yaml")
    for assignment in overrides:
        override(table, assignment)
    (run / "config.yaml").write_text(yaml.safe_dump(table))
    config = load_config(str(run / "config.yaml"))
    quiet = Display(config.steps, Console(file=io.StringIO()))
    return asyncio.run(run_training(config, quiet, resume=True))


@pytest.mark.parametrize(
    ("change", "was"),
    [
        ("seed=7", 1),
        ("learner.lr=0.5", 2e-4),
        ("learner.betas=[0.5, 0.6]", [0.9, 0.99]),
        ("rollout.group_size=4", 8),
        ("algorithm.name=dr_grpo", "grpo"),
        ("rewards.format.weight=0.5", 0.1),
        ("data.train_limit=9", None),
    ],
)
def test_a_config_that_was_edited_is_refused_by_key(run, change, was):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    key, _, now = change.partition("=")
    with pytest.raises(InputError) as caught:
        edited(run, change, "steps=4")
    now = yaml.safe_load(now)
    assert str(caught.value) == (f"--resume: {key} = {now!r}, but the run was started with {was!r}")
    with pytest.raises(InputError, match=f"--resume: {key} = "):  # the same from Python
        trainers.train(load_config(str(run / "config.yaml")), resume=True, display=False)
    changed = [path for path, at in before.items() if path.stat().st_mtime_ns != at]
    assert changed == [run / "config.yaml"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("steps=2", "--resume: steps = 2, but the run has taken 3 steps"),
        ("algorithm=rloo", "--resume: algorithm.name = 'rloo', but the run was started"),
    ],
)
def test_fewer_steps_and_another_form_of_the_algorithm_are_told_as_such(run, change, told):
    with pytest.raises(InputError, match=re.escape(told)):
        edited(run, change)


def test_a_free_key_may_change_and_is_recorded(run):
    edited(run, "steps=4", "learner.tokens_per_microbatch=64", "rewards.correct.deadline_s=9")
    [event] = [e for e in read_jsonl(run / "events.jsonl") if e["event"] == "config_changed"]
    moved = event["changes"].pop("output_dir")  # the fixture has copied the run
    assert moved["new"] == str(run.parent)
    assert event["changes"] == {
        "steps": {"old": 3, "new": 4},
        "learner.tokens_per_microbatch": {"old": 16384, "new": 64},
        "rewards.correct.deadline_s": {"old": None, "new": 9.0},
    }
    newest = read_table(run / "checkpoints" / "step_000004" / "config.yaml")
    assert newest["learner"]["tokens_per_microbatch"] == 64


def test_an_older_checkpoint_without_its_config_says_so(run):
    for path in run.glob("checkpoints/*/config.yaml"):
        path.unlink()
    options = [*SMALL, f"output_dir={run.parent}"]
    config = load_config("quickstart", [*options, "steps=4", "seed=7"])
    with pytest.raises(InputError, match="--resume: seed = 7, but the run was started with 1"):
        asyncio.run(run_training(config, Display(4), resume=True))
    config, shown = load_config("quickstart", [*options, "steps=4"]), io.StringIO()
    display = Display(config.steps, Console(file=shown, width=300))
    asyncio.run(run_training(config, display, resume=True))
    assert "step_000003 does not hold the config that it was made with" in shown.getvalue()
