"""`train`: a run from Python, which also accepts functions of a script or notebook as rewards."""

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rlnorm.trainers.config.schema import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """The outcome of a run."""

    directory: Path
    """Run directory: config, metrics, rollouts, evaluations, report."""
    metrics: dict[str, float | None]
    """The last row of metrics.jsonl, with the names of docs/metrics.md; None for null."""
    checkpoint: Path | None
    """The newest one; transformers and vLLM can load its folder `model`."""
    ended: Literal["done", "stopped early"]
    """Stopped early: by Ctrl-C, SIGTERM or SIGHUP; `resume=True` continues the run."""


def train(
    config: "Config | Mapping[str, Any] | str | Path",
    *,
    overrides: Sequence[str] = (),
    rewards: Sequence[Any] | Mapping[str, Any] | None = None,
    estimator: Any = None,
    resume: bool = False,
    overwrite: bool = False,
    display: bool = True,
) -> RunResult:
    """Train as `rlnorm train` does; blocks until the run has ended, also inside an event loop.

    config: a Config, its keys and values, a YAML file, or the name of a shipped preset.
    overrides: `key=value` texts, as on the command line.
    rewards: replace those of the config: functions, functions by name, or tables as in a config
    ({"name": ..., "function": ..., "weight": ...}). Functions may be defined anywhere: workers
    receive them by value, with everything they use.
    estimator: replaces that of the algorithm; called in this process.
    resume: continue from the newest checkpoint, with the same functions. overwrite: replace the
    run. display: show progress and a summary on the terminal.

    In the main thread Ctrl-C, SIGTERM and SIGHUP end the run after its step, a second one at once:
    by ending the process if the run is not over 4 s later. Their handlers are restored afterwards.

    Raises InputError before anything starts, RunError when the run failed, and Interrupted (a
    RunError) after a second Ctrl-C; the last two say how to continue.

    Example: train("quickstart", overrides=["steps=2"], rewards=[my_reward])
    """
    # must be set before torch loads, see docs/dependencies.md
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from rlnorm.errors import InputError
    from rlnorm.trainers.config.check import precheck
    from rlnorm.trainers.record.run_dir import RunDir

    if resume and overwrite:
        raise InputError("resume and overwrite exclude each other")
    settings = _settings(config, overrides, rewards, estimator)
    run_dir = RunDir(settings.run_dir)
    run_dir.check(settings, resume=resume, overwrite=overwrite)
    precheck(settings)
    from rlnorm.trainers.files import latest_checkpoint, read_jsonl

    _run(settings, display=display, resume=resume, overwrite=overwrite)
    last = read_jsonl(run_dir.metrics)[-1]
    return RunResult(
        directory=run_dir.path,
        metrics=last,
        checkpoint=latest_checkpoint(run_dir.checkpoints),
        ended="done" if last["step"] >= settings.steps else "stopped early",
    )


def _settings(
    config: "Config | Mapping[str, Any] | str | Path",
    overrides: Sequence[str],
    rewards: Sequence[Any] | Mapping[str, Any] | None,
    estimator: Any,
) -> "Config":
    """The validated config with overrides, rewards and estimator applied."""
    from rlnorm.errors import InputError
    from rlnorm.trainers.config.file import find_preset, override, read_table
    from rlnorm.trainers.config.load import validate_config
    from rlnorm.trainers.config.schema import Config

    if isinstance(config, Config):
        table = config.model_dump()
    elif isinstance(config, str | Path):
        table = read_table(find_preset(str(config)))
    elif isinstance(config, Mapping):
        table = _copied(config)
    else:
        raise InputError(f"config = {config!r}: needs a Config, a table, a file or a preset's name")
    if isinstance(overrides, str) or not all(isinstance(text, str) for text in overrides):
        raise InputError(f"overrides = {overrides!r}: needs a list of texts key=value")
    for assignment in overrides:
        override(table, assignment)
    if rewards is not None:
        if isinstance(rewards, str) or not isinstance(rewards, Iterable):
            raise InputError(f"rewards = {rewards!r}: needs a list, or a table by name")
        items = rewards.items() if isinstance(rewards, Mapping) else enumerate(rewards)
        table["rewards"] = [_reward(key, value) for key, value in items]
    if estimator is not None:
        named = table.get("algorithm", "grpo")
        slots = named if isinstance(named, Mapping) else {"name": named}
        table["algorithm"] = {**slots, "estimator": estimator}
    return validate_config(table)


def _copied(table: Any) -> Any:
    """A copy of tables and lists, which overrides change; other values are not copied."""
    if isinstance(table, Mapping):
        return {key: _copied(value) for key, value in table.items()}
    return [_copied(value) for value in table] if isinstance(table, list | tuple) else table


def _reward(key: str | int, value: Any) -> Mapping[str, Any]:
    """One reward as a table of the config. key: its name, or its position in a list."""
    from rlnorm.errors import InputError

    if isinstance(value, Mapping):
        return value if isinstance(key, int) else {"name": key, **value}
    name = key if isinstance(key, str) else getattr(value, "__name__", "<lambda>")
    if isinstance(value, str):
        name = value
    if name == "<lambda>":
        raise InputError(f"rewards[{key}] = {value!r} has no name: give {{name: function}} instead")
    return {"name": name, "function": value}


def _run(settings: "Config", *, display: bool, resume: bool, overwrite: bool) -> None:
    """Train with a display, and with signals that stop the run."""
    from rich.console import Console

    from rlnorm.trainers.record.display import Display
    from rlnorm.trainers.run import run_training
    from rlnorm.trainers.stop import Stop, signals_stop

    shown = Display(settings.steps, Console(quiet=not display))
    stop = Stop(shown.note)
    with signals_stop(stop):
        _to_the_end(run_training(settings, shown, stop, resume=resume, overwrite=overwrite))


def _to_the_end(run: Coroutine[Any, Any, Any]) -> None:
    """Run to the end, in a new thread if this thread's event loop is already running."""
    from rlnorm.trainers.stop import restore_handlers

    if not _loop_is_running():
        asyncio.run(run)
        return
    failures: list[BaseException] = []

    def body() -> None:
        try:
            asyncio.run(run)
        except BaseException as error:  # raised again in the waiting thread
            failures.append(error)

    thread = threading.Thread(target=body, name="rlnorm-train")
    thread.start()
    while thread.is_alive():
        thread.join(1.0)
        restore_handlers()
    if failures:
        raise failures[0]


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
