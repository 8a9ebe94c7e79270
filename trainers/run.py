"""One run from start to end: build, train, report, and close everything."""

import asyncio
import errno
import time
from contextlib import AsyncExitStack, nullcontext, suppress

import torch

from rlnorm.errors import InputError
from rlnorm.from_python import functions_in
from rlnorm.rewards.errors import RewardError
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.errors import RunError, StoppedAtOnce
from rlnorm.trainers.files import alone_in, latest_checkpoint, read_jsonl
from rlnorm.trainers.loop import train
from rlnorm.trainers.prepare import Prepared, prepare
from rlnorm.trainers.record.display import Display, sparkline
from rlnorm.trainers.record.gains import benchmark_gains
from rlnorm.trainers.record.parts import Ending, Status, parts_of, times
from rlnorm.trainers.record.report import write_report
from rlnorm.trainers.record.run_dir import RunDir
from rlnorm.trainers.stop import Stop


async def run_training(
    config: Config,
    display: Display,
    stop: Stop | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> RunDir:
    """Train as the config says; returns the run directory. stop: requests to end the run."""
    stop = stop or Stop(display.note)
    stop.watch()
    started, run_dir = time.perf_counter(), RunDir(config.run_dir)
    changes = run_dir.check(config, resume=resume, overwrite=overwrite)
    prepared = await prepare(config)  # first, so that bad input leaves no empty run directory
    # an existing directory is locked before it is changed or moved
    with alone_in(run_dir.path, "run directory") if run_dir.path.exists() else nullcontext():
        run_dir.create(config, overwrite=overwrite)
        if changes:
            found = {change.key: {"old": change.old, "new": change.new} for change in changes}
            run_dir.log_event("config_changed", changes=found)
    with alone_in(run_dir.path, "run directory"):
        return await _train_in(run_dir, prepared, display, stop, started, resume=resume)


async def _train_in(
    run_dir: RunDir,
    prepared: Prepared,
    display: Display,
    stop: Stop,
    started: float,
    *,
    resume: bool,
) -> RunDir:
    from rlnorm.trainers.build import build_run  # takes seconds to load, so bad input is told first

    config, state, ending = prepared.config, None, Ending(run_dir, started)
    stop.last_words = lambda: _cut_off(config, run_dir, ending, stop)
    title = f"rlnorm run {config.run_name}"
    try:
        async with AsyncExitStack() as stack:
            run, state = await build_run(prepared, run_dir, display, stack, resume=resume)
            stack.callback(display.stop)
            display.start(completed=state.step)
            state = await train(run, state, stop)
        if state.step >= config.steps:
            ending.record("done", f"{config.steps} steps")
        else:
            ending.record("stopped", stop.cause or "")
        report = write_report(run_dir, title)
    except asyncio.CancelledError:  # a signal before training began, or a second one
        _record_failure(run_dir, ending, "stopped at once", stop.cause or "cancelled", title)
        raise _stopped_at_once(config, run_dir) from None
    except (OSError, RewardError, RunError, FloatingPointError, MemoryError) as error:
        cause = _cause(error, run_dir)
        _record_failure(run_dir, ending, "failed", cause, title)
        raise RunError(f"{cause}{_then(error, config, run_dir)}") from error
    except BaseException as error:
        if state is not None or not isinstance(error, InputError):  # refused before it began
            _record_failure(run_dir, ending, "failed", f"{type(error).__name__}: {error}", title)
        raise
    finally:
        torch.use_deterministic_algorithms(False)
        run_dir.discard_if_empty()
    lines = summary_lines(run_dir)
    lines += [("report", str(report)), ("loggers", "; ".join(run.loggers.failures))]
    ended = "done" if state.step >= config.steps else "stopped early"
    display.summary(ended, [line for line in lines if line[1]])
    return run_dir


def _record_failure(
    run_dir: RunDir, ending: Ending, status: Status, cause: str, title: str
) -> None:
    with suppress(OSError, InputError):  # on a full disk; what ended the run is told in any case
        ending.record(status, cause)
        if run_dir.metrics.exists():
            write_report(run_dir, title)


def summary_lines(run_dir: RunDir) -> list[tuple[str, str]]:
    """The gains on every benchmark, the rewards as a curve, and where the results are."""
    rows = read_jsonl(run_dir.metrics)
    gains = benchmark_gains(run_dir.path)
    lines = [(f"{gain.benchmark} {gain.measure}", str(gain)) for gain in gains]
    if gains:
        lines.append(("", f"intervals over problems; {gains[0].problems} in {gains[0].benchmark}"))
    rewards = [row["reward/mean"] for row in rows if row.get("reward/mean") is not None]
    if rewards:
        wide = rewards[:: max(1, len(rewards) // 60)]
        lines.append(("reward", f"{sparkline(wide)} {rewards[0]:.2f} -> {rewards[-1]:.2f}"))
        lines.append(("time", times(rows, parts_of(run_dir))))
    warned = [f"{w['name']} at step {w['step']}" for w in run_dir.events_of("warning")]
    lines += [("warnings", ", ".join(warned))] if warned else []
    lines.append(("run directory", str(run_dir.path)))
    newest = latest_checkpoint(run_dir.checkpoints)
    if newest is not None:
        lines.append(("model", str(newest / "model")))
    return lines


def stopped_early(config: Config, step: int) -> str:
    """What a run that ended before its last step has saved, and how to continue."""
    if step == 0:
        return (
            f"stopped before step 1 of {config.steps}: nothing was trained, so there is nothing to "
            f"save; to start again: {_again(config, 'overwrite')}"
        )
    resume = _again(config, "resume")
    return f"stopped and saved after step {step} of {config.steps}; to continue: {resume}"


def _cause(error: Exception, run_dir: RunDir) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no space left on the disk of {run_dir.path}"
    kind = "" if isinstance(error, RunError) else f"{type(error).__name__}: "
    return f"{kind}{error}"


def _then(error: Exception, config: Config, run_dir: RunDir) -> str:
    """How to resume the run or start it again."""
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    mend = ": free some" if full else "; correct it"
    again = f"then: {_again(config, 'resume')}" if run_dir.metrics.exists() else "then start again"
    return f"{mend}, {again}"


def _cut_off(config: Config, run_dir: RunDir, ending: Ending, stop: Stop) -> str:
    with suppress(OSError, InputError):
        ending.record("stopped at once", stop.cause or "")
    told = str(_stopped_at_once(config, run_dir))
    run_dir.discard_if_empty()
    return told


def _stopped_at_once(config: Config, run_dir: RunDir) -> StoppedAtOnce:
    if not run_dir.metrics.exists():
        return StoppedAtOnce("stopped before training began: nothing was saved; start again")
    return StoppedAtOnce(
        "stopped at once: steps after the last checkpoint are lost; to continue: "
        f"{_again(config, 'resume')}"
    )


def _again(config: Config, flag: str) -> str:
    """The command that continues this run, or the call if functions were passed from Python."""
    if any(functions_in(config.model_dump())):
        return f"rlnorm.trainers.train(..., {flag}=True) with the same functions"
    return f"rlnorm train {config.run_dir}/config.yaml --{flag}"
