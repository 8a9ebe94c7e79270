"""`rlnorm.trainers.train`: a run from Python, with functions that no import could find."""

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest

from rlnorm.errors import InputError
from rlnorm.trainers import RunResult, train
from rlnorm.trainers.config.file import find_preset, read_table
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.errors import Interrupted, RunError

SMALL = (
    *("steps=2", "data.eval={}", "data.train_limit=64", "rollout.prompts_per_step=4"),
    *("learner.minibatches=1", "checkpoint_every=1", "deterministic=true", "run_name=r"),
)


@pytest.fixture
def small(tmp_path):
    """Overrides of a run of two seconds, in a folder of its own."""
    return [*SMALL, f"output_dir={tmp_path}"]


def a_reward():
    def lines(completion):
        return float(completion.count("\n"))

    return lines


def an_estimator(at_step=lambda step: None):
    """The rewards as they are. at_step: called with 1, 2, ... in the training process."""
    steps = iter(range(1, 100))

    def as_given(rewards, group_index, *, weights=()):
        at_step(next(steps))
        return rewards @ rewards.new_tensor(weights)

    return as_given


def in_a_running_loop(*arguments, **options):
    """As a notebook cell calls it."""

    async def cell():
        return train(*arguments, **options)

    return asyncio.run(cell())


def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)


def numbers(result):
    return {k: v for k, v in result.metrics.items() if not k.startswith(("time/", "throughput/"))
            and "seconds" not in k}  # fmt: skip


def test_own_functions_give_the_rewards_and_the_advantages(small, tmp_path):
    calls = []
    result = train(
        "quickstart",
        overrides=small,
        rewards=[a_reward()],
        estimator=an_estimator(calls.append),
        display=False,
    )
    rows = pq.read_table(tmp_path / "r/rollouts/step_000002.parquet").to_pylist()
    assert len(rows) == 4 * 8
    counted = [row["text"].count("\n") for row in rows]
    assert [row["advantage"] for row in rows] == counted
    assert len(set(counted)) > 1
    assert result.metrics["reward/lines"] == result.metrics["reward/mean"] == sum(counted) / 32
    assert calls == [1, 2]  # a list of this process
    assert result == RunResult(
        directory=tmp_path / "r",
        metrics=result.metrics,
        checkpoint=tmp_path / "r/checkpoints/step_000002",
        ended="done",
    )
    assert result.metrics["step"] == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.ended = "done"


def test_a_running_event_loop_changes_no_number(small):
    options = {"overrides": small, "rewards": [a_reward()], "display": False}
    outside = train("quickstart", **options)
    before = threading.active_count()
    inside = in_a_running_loop("quickstart", overwrite=True, **options)
    assert numbers(inside) == numbers(outside)
    assert threading.active_count() == before


@pytest.mark.parametrize("start", [train, in_a_running_loop])
def test_one_ctrl_c_ends_after_the_step_and_resume_goes_on(small, start):
    before = signal.getsignal(signal.SIGINT)
    options = {"overrides": [*small, "steps=3"], "rewards": [a_reward()], "display": False}
    stopped = start("quickstart", estimator=an_estimator(interrupt), **options)
    assert (stopped.ended, stopped.metrics["step"]) == ("stopped early", 1)
    assert stopped.checkpoint.name == "step_000001"
    assert signal.getsignal(signal.SIGINT) == before
    done = start("quickstart", estimator=an_estimator(), resume=True, **options)
    assert (done.ended, done.metrics["step"]) == ("done", 3)


@pytest.mark.parametrize("start", [train, in_a_running_loop])
def test_two_end_at_once_and_say_how_to_go_on(small, start):
    def twice(step):
        interrupt()
        time.sleep(0.3)  # signals that come together are one
        interrupt()

    with pytest.raises(Interrupted) as caught:
        start("quickstart", overrides=small, estimator=an_estimator(twice), display=False)
    assert str(caught.value) == (
        "stopped at once: steps after the last checkpoint are lost; to continue: "
        "rlnorm.trainers.train(..., resume=True) with the same functions"
    )


@pytest.mark.parametrize("kind", ["config", "dict", "path", "file"])
def test_every_kind_of_config_and_reward_table(small, tmp_path, kind):
    table = read_table(find_preset("quickstart"))
    (tmp_path / "own.yaml").write_text(find_preset("quickstart").read_text())
    config = {
        "config": load_config("quickstart"),
        "dict": table,
        "path": tmp_path / "own.yaml",
        "file": str(tmp_path / "own.yaml"),
    }[kind]
    rewards = {"n": a_reward(), "half": {"function": lambda sample: 1.0, "weight": 0.5}}
    result = train(config, overrides=[*small, "steps=1"], rewards=rewards, display=False)
    total = result.metrics["reward/n"] + 0.5 * result.metrics["reward/half"]
    assert result.metrics["reward/mean"] == pytest.approx(total)
    assert table == read_table(find_preset("quickstart"))


def test_a_config_may_hold_functions_itself(small):
    table = read_table(find_preset("quickstart"))
    table["rewards"] = [{"name": "n", "function": a_reward()}, "boxed_exact", a_reward()]
    table["rewards"] = table["rewards"][:1]
    table["algorithm"] = {"name": "grpo", "shaping": [], "estimator": {"name": an_estimator()}}
    result = train(table, overrides=[*small, "steps=1"], display=False)
    written = read_table(result.directory / "config.yaml")
    assert written["rewards"][0]["function"] == "<python>:lines"
    assert written["algorithm"]["estimator"] == {"name": "<python>:as_given"}


def test_the_command_line_cannot_resume_it_and_says_so(small):
    options = {"overrides": small, "display": False}
    train("quickstart", rewards=[a_reward()], **options)
    config = f"{small[-1].removeprefix('output_dir=')}/r/config.yaml"
    command = [sys.executable, "-m", "rlnorm.launch.cli", "train", config, "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "rlnorm: rewards.lines.function = '<python>:lines': this function was given from Python; "
        "give it again, as rlnorm.trainers.train(..., resume=True) does, or name one as "
        "module:name\n"
    )
    other = {"other": a_reward()}
    with pytest.raises(InputError, match=r"rewards\.\w+\.name = "):
        train("quickstart", rewards=other, resume=True, **options)


def test_an_estimator_from_python_is_refused_by_the_command_line_too(small):
    table = [*small, "algorithm={name: grpo, estimator: '<python>:mine'}"]
    with pytest.raises(InputError, match="'<python>:mine': this function was given from Python"):
        train("quickstart", overrides=table, display=False)


def locked():
    lock = threading.Lock()

    def mine(rewards):
        with lock:
            return rewards

    return mine


def locked_reward():
    lock = threading.Lock()

    def mine(sample):
        with lock:
            return 1.0

    return mine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewards": []}, "rewards"),
        ({"rewards": [lambda sample: 1.0]}, r"rewards\[0\] = .* has no name: give {name: f"),
        ({"rewards": [a_reward(), a_reward()]}, "component 'lines' appears 2 times"),
        ({"rewards": 3}, r"rewards = 3: needs a list, or a table by name"),
        ({"overrides": [5]}, r"overrides = .*, 5\]: needs a list of texts key=value"),
        ({"rewards": [3]}, r"rewards\[0\] = 3 has no name"),
        ({"rewards": {"mine": 3}}, r"rewards\.0\.function = 3"),
        ({"rewards": {"r": locked_reward()}}, r"'r' cannot be sent .* it holds lock \(a _thread"),
        ({"rewards": {"r": lambda text, gold: 1.0}}, "rewards.r.function: parameter `text`"),
        ({"estimator": lambda prizes: prizes}, "its parameter 'prizes' is not a data column"),
        ({"estimator": {"name": "grpo", "epsilon": 1}}, r"grpo takes \['ddof', 'eps'"),
        ({"resume": True, "overwrite": True}, "resume and overwrite exclude each other"),
        ({"resume": True}, "no run at"),
        ({"overrides": ["stepz=2"]}, "stepz: unknown key"),
        (
            {"estimator": locked(), "overrides": ["learner.backend=deepspeed"]},
            r"algorithm.estimator: <python>:mine cannot be sent .*: it holds lock",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_before_anything_starts(tmp_path, options, message):
    overrides = [f"output_dir={tmp_path / 'runs'}", *options.pop("overrides", [])]
    with pytest.raises(InputError, match=message) as caught:
        train("quickstart", overrides=overrides, **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_overrides_in_one_text_are_refused():
    with pytest.raises(InputError, match="overrides = 'steps=2': needs a list of texts key=value"):
        train("quickstart", overrides="steps=2")


def test_a_reward_that_fails_fails_the_run_and_says_how_to_go_on(small):
    def mine(completion):
        return {}["no such column"]

    with pytest.raises(RunError) as caught:
        train("quickstart", overrides=small, rewards=[mine], display=False)
    message = str(caught.value)
    assert (
        "reward 'mine' failed on 32 of 32 samples; the first: KeyError: 'no such column'" in message
    )
    assert __file__ in message
    assert message.endswith("then: rlnorm.trainers.train(..., resume=True) with the same functions")


@pytest.mark.parametrize("display", [True, False])
def test_a_display_by_default(small, capsys, display):
    train("quickstart", overrides=small, display=display)
    shown = capsys.readouterr().out
    assert ("step    2/2" in shown, "report.html" in shown) == (display, display)


def test_importing_it_loads_nothing_heavy():
    heavy = ["torch", "pydantic", "numpy", "yaml", "rich", "cloudpickle"]
    code = f"import sys, rlnorm.trainers; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": None}, "config = None: needs a Config, a table, a file or a preset's name"),
        ({"config": "quickstart", "rewards": len}, "rewards = <built-in function len>: needs a li"),
        ({"config": "quickstart", "rewards": "exact"}, "rewards = 'exact': needs a list"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        train(**arguments)
