"""`train`: a run from Python, which also accepts functions of a script or notebook as rewards."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVarTuple

if TYPE_CHECKING:
    from rlnorm.trainers.config.schema import Config

_Ts = TypeVarTuple("_Ts")


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
    """Stopped early: by Ctrl-C; `resume=True` continues the run."""


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
    from rich.console import Console

    from rlnorm.trainers.checkpoint import latest_checkpoint
    from rlnorm.trainers.files import read_jsonl
    from rlnorm.trainers.record.display import Display
    from rlnorm.trainers.run import run_training

    shown = Display(settings.steps, Console(quiet=not display))
    _run(run_training(settings, shown, resume=resume, overwrite=overwrite))
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
    for assignment in overrides:
        override(table, assignment)
    if rewards is not None:
        if callable(rewards) or isinstance(rewards, str):
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


class _LoopInThread(asyncio.SelectorEventLoop):
    """An event loop outside the main thread, to which the main thread passes Ctrl-C."""

    on_interrupt: Callable[[], object] | None = None

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Store the handler of Ctrl-C, the only signal that a run handles."""
        self.on_interrupt = partial(callback, *args)


def _run(run: Coroutine[Any, Any, Any]) -> None:
    """Run to the end, in a new thread if this thread's event loop is already running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(run)
        return
    loop, failures = _LoopInThread(), list[BaseException]()

    def body() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(run)
        except BaseException as error:  # raised again in the waiting thread
            failures.append(error)

    def interrupt(*_: Any) -> None:
        # before training begins there is nothing to save, so everything is cancelled
        stop = loop.on_interrupt or (lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        loop.call_soon_threadsafe(stop)

    thread = threading.Thread(target=body, name="rlnorm-train")
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupt) if main else None
    try:
        thread.start()
        thread.join()
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    if failures:
        raise failures[0]
