"""Paired runs of several algorithms: the same seeds, prompts and weights, one run at a time.

    <output_dir>/<run_name>/comparison.yaml            what is compared, with every extension
                            <algorithm>/seed_<s>/      an ordinary run directory
                            <algorithm>/seed_<s>.log   what the run printed

Each run has its own process, so that no memory, threads or random state carry over to the next.
The seed decides the prompt order and, with step, prompt and sample index, every sampling seed, so
runs of the same seed differ only in the algorithm, and algorithms only in one part (`rows`).
Stages that the config overrides (algorithm.aggregate=token-mean) apply to all of them. Seeds are
the outer loop: an interrupted comparison has about as many runs of each algorithm.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rlnorm.errors import InputError
from rlnorm.trainers.compare.rows import baseline_table, check_rows, refuse_shared, row_table
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.errors import Interrupted, RunError
from rlnorm.trainers.files import alone_in, check_writable, write_atomic
from rlnorm.trainers.record.run_dir import dump_config

OWN = "config"
"""Name of the config's own algorithm in --algorithms; its overrides then apply to it alone."""
POLL_S = 0.2
STOP_DEADLINE_S = 600.0
"""Longest wait for a run to finish its step and save after Ctrl-C."""
FREE_KEYS = frozenset(
    ("output_dir", "run_name", "logging", "cluster", "checkpoint_every", "keep_checkpoints")
)
"""Keys of the config that do not affect the results of a comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What is compared; the config of every run follows from it."""

    config: Config
    algorithms: tuple[str, ...]
    baseline: str
    seeds: tuple[int, ...]

    @property
    def folder(self) -> Path:
        """The folder that holds all runs."""
        return self.config.run_dir

    def runs(self) -> list["Run"]:
        """All runs: for each seed, every algorithm."""
        return [
            Run(algorithm=name, seed=seed, config=self.run_config(name, seed))
            for seed in self.seeds
            for name in self.algorithms
        ]

    @property
    def shared_slots(self) -> dict[str, Any]:
        """Stages of the config that replace those of every named algorithm."""
        own = self.config.algorithm
        if OWN in self.algorithms or isinstance(own, str):
            return {}
        return {slot: stage for slot, stage in own.items() if slot != "name"}

    def algorithm_table(self, algorithm: str) -> str | dict[str, Any]:
        """`algorithm:` of the config of a row, which differs from the baseline's in one part."""
        own = self.config.algorithm
        if algorithm == OWN:
            return own
        shared = self.shared_slots
        if self.baseline == OWN:
            baseline = {"name": own} if isinstance(own, str) else own
        else:
            baseline = baseline_table(self.baseline, shared)
        row = baseline if algorithm == self.baseline else row_table(algorithm, baseline, shared)
        return algorithm if list(row) == ["name"] else row

    def run_config(self, algorithm: str, seed: int) -> Config:
        """The shared config with the algorithm, the seed and the directory of the run."""
        return self.config.model_copy(
            update={
                "algorithm": self.algorithm_table(algorithm),
                "seed": seed,
                "output_dir": str(self.folder / algorithm),
                "run_name": f"seed_{seed}",
            }
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One algorithm with one seed."""

    algorithm: str
    seed: int
    config: Config

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.config.run_dir

    @property
    def log(self) -> Path:
        """The file with everything the run's process printed."""
        return self.path.with_name(f"{self.path.name}.log")

    @property
    def name(self) -> str:
        """Algorithm and seed, for messages."""
        return f"{self.algorithm}, seed {self.seed}"

    def finished(self) -> bool:
        """True once the last step was evaluated and saved."""
        latest = self.path / "checkpoints" / "latest"
        return latest.is_file() and latest.read_text().strip() == f"step_{self.config.steps:06d}"

    def step(self) -> int:
        """The step of the last complete line of metrics.jsonl, -1 before the first."""
        path = self.path / "metrics.jsonl"
        try:
            size = path.stat().st_size
            with open(path, "rb") as file:
                file.seek(max(0, size - 65536))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return -1
        return int(json.loads(lines[-2])["step"]) if len(lines) > 1 else -1


@dataclass(kw_only=True, slots=True)
class Outcome:
    """Which runs finished and which failed."""

    finished: list[Run] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """Run name -> why it ended early."""


def plan_comparison(
    config: Config, algorithms: Sequence[str], seeds: int, baseline: str
) -> Comparison:
    """Check the request before anything is written or started; raises InputError."""
    names = [name.strip() for name in algorithms if name.strip()]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--algorithms: {name!r} is listed {names.count(name)} times")
    if len(names) < 2:
        raise InputError(
            f"--algorithms = {','.join(names)!r}: a comparison needs at least two names"
        )
    if baseline not in names:
        raise InputError(f"--baseline = {baseline!r}: choose one of --algorithms, {names}")
    if seeds < 1:
        raise InputError(f"--seeds = {seeds}: needs 1 or more, and 5 or more for strong claims")
    if not config.data.eval:
        raise InputError("data.eval is empty; a comparison needs at least one benchmark")
    comparison = Comparison(
        config=config,
        algorithms=tuple(names),
        baseline=baseline,
        seeds=tuple(range(config.seed, config.seed + seeds)),
    )
    refuse_shared(names if OWN not in names else (), comparison.shared_slots)
    return comparison


def check_buildable(comparison: Comparison) -> None:
    """Resolve every row and the shared data, model and rewards, without writing anything."""
    from rlnorm.trainers.config.check import precheck
    from rlnorm.trainers.config.resolve import algorithm_slots, build_algorithm

    configs = {n: comparison.run_config(n, comparison.seeds[0]) for n in comparison.algorithms}
    for config in configs.values():
        algorithm_slots(config)  # checks every name before torch is loaded
    baseline = configs[comparison.baseline]
    precheck(baseline)
    built = {name: build_algorithm(config) for name, config in configs.items()}
    check_rows(built, comparison.baseline, comparison.config)
    from rlnorm.trainers.prepare import prepare

    asyncio.run(prepare(baseline))


@contextmanager
def open_comparison(comparison: Comparison) -> Iterator[int]:
    """Create or extend the folder, locked against other processes.

    Yields a file descriptor for the runs to inherit: the lock lasts until the last of them ends.
    """
    folder, path = comparison.folder, comparison.folder / "comparison.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder, "comparison") as held:
        check_folder(comparison)  # again, now that no other process can change the folder
        write_atomic(path, yaml.safe_dump(_record(comparison), sort_keys=False))
        yield held


def check_folder(comparison: Comparison) -> None:
    """Allow an existing comparison to be continued or extended, but not changed or narrowed."""
    folder, path = comparison.folder, comparison.folder / "comparison.yaml"
    check_writable(folder, "comparison")
    if not path.is_file():
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} exists and is not a comparison: set run_name or output_dir")
        return
    before, now = yaml.safe_load(path.read_text()), _shared(comparison)
    for key, value in now.items():
        if before["config"].get(key, value) != value:
            raise InputError(
                f"comparison {folder}: {key} = {value!r}, but it was started with "
                f"{before['config'].get(key)!r}; set run_name for another comparison"
            )
    if before["baseline"] != comparison.baseline:
        raise InputError(
            f"--baseline = {comparison.baseline!r}: comparison {folder} has {before['baseline']!r}"
        )
    last = before["history"][-1]
    left_out = [name for name in last["algorithms"] if name not in comparison.algorithms]
    if left_out or len(comparison.seeds) < len(last["seeds"]):
        raise InputError(
            f"comparison {folder} has --algorithms {','.join(last['algorithms'])} --seeds "
            f"{len(last['seeds'])}: it can be extended but not narrowed, because results must not "
            "be left out after they were seen"
        )


def _shared(comparison: Comparison) -> dict[str, Any]:
    """What must not change when a comparison is continued."""
    table = comparison.config.model_dump(mode="json")
    own = {"algorithm": table["algorithm"]} if OWN in comparison.algorithms else {}
    table = {k: v for k, v in table.items() if k not in FREE_KEYS and k != "algorithm"}
    return {**table, **own, "shared_slots": comparison.shared_slots}


def _record(comparison: Comparison) -> dict[str, Any]:
    history = read_history(comparison)
    entry = {"algorithms": list(comparison.algorithms), "seeds": list(comparison.seeds)}
    return {
        "baseline": comparison.baseline,
        "history": history if history[-1:] == [entry] else [*history, entry],
        "config": _shared(comparison),
    }


def read_history(comparison: Comparison) -> list[dict[str, Any]]:
    """Every set of algorithms and seeds that was requested of this comparison, in order."""
    path = comparison.folder / "comparison.yaml"
    return list(yaml.safe_load(path.read_text())["history"]) if path.is_file() else []


def run_all(comparison: Comparison, train: Sequence[str], lock: int, display: Any) -> Outcome:
    """Run whatever is not finished, one after the other; a failure does not stop the rest.

    train: the command that trains a config file, such as [python, -m, rlnorm.launch.cli, train].
    """
    outcome, runs = Outcome(), comparison.runs()
    with _terminated_as_interrupted():
        for index, run in enumerate(runs):
            if not run.finished():
                display.start(run)
                try:
                    failure = _run_one(run, train, lock, display)
                except KeyboardInterrupt:
                    done = sum(r.finished() for r in runs)
                    raise Interrupted(
                        f"interrupted; {done} of {len(runs)} runs are done and kept; to continue, "
                        "run the same command again"
                    ) from None
                if failure:
                    outcome.failures[run.name] = failure
                    display.note(f"{run.name} failed: {failure}")
                    display.done(index + 1)
                    continue
            outcome.finished.append(run)
            display.done(index + 1)
    return outcome


def _run_one(run: Run, train: Sequence[str], lock: int, display: Any) -> str:
    """Train, showing progress; returns why the run failed, or "" when it finished."""
    if run.path.exists() and not (run.path / "config.yaml").is_file():
        shutil.rmtree(run.path)  # killed before its first file was complete
    run.path.parent.mkdir(parents=True, exist_ok=True)
    config = run.path.with_name(f"{run.path.name}.yaml")
    write_atomic(config, dump_config(run.config))
    command = [*train, str(config), *(["--resume"] if run.path.exists() else [])]
    # twice the run's own deadline: a batch of rollouts, then learning and evaluation
    stall_s = 2 * run.config.rollout.deadline_s
    with open(run.log, "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal reaches this process only
            pass_fds=(lock,),
        )
        try:
            stalled = _watch(process, run, display, stall_s)
        except BaseException:
            display.note("saving the current run; press Ctrl-C again to stop at once")
            _stop(process)
            raise
    if stalled:
        return f"no step within {stall_s:.0f} s (2 x rollout.deadline_s); see {run.log}"
    if process.returncode or not run.finished():
        return f"{_last_line(run.log)} (status {process.returncode}, log {run.log})"
    return ""


def _watch(process: subprocess.Popen[bytes], run: Run, display: Any, stall_s: float) -> bool:
    """Wait for the run to end; True when it made no step within stall_s and was killed."""
    step, moved = -1, time.monotonic()
    while process.poll() is None:
        if (now := run.step()) != step:
            step, moved = now, time.monotonic()
            display.step(run, step)
        if time.monotonic() - moved > stall_s:
            _kill(process)
            return True
        time.sleep(POLL_S)
    display.step(run, run.step())
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the run to finish its step and save; a second Ctrl-C or the deadline kills it."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=STOP_DEADLINE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its process group includes the reward workers
    except ProcessLookupError:
        return
    finally:
        process.wait(timeout=60)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C, so that no run is left behind; nohup is respected."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    handled = (signal.SIGTERM, signal.SIGHUP)
    before = {s: signal.getsignal(s) for s in handled if signal.getsignal(s) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if line.startswith("rlnorm:")]
    printed = [line for line in lines if line]
    return (errors or printed or ["it printed nothing"])[-1].removeprefix("rlnorm: ")


def raise_for_failures(outcome: Outcome, report: Path) -> None:
    """Raise RunError when a run failed; call it after everything else was reported."""
    if outcome.failures:
        raise RunError(
            f"failed: {'; '.join(outcome.failures)}; {report} leaves their algorithms out; fix "
            "the cause and run the same command again"
        )
