"""One malformed input: the files it consists of, the command that reads them, and what it names."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

LONGEST_S = 60.0
"""After this the command is ended: it hangs."""
SLOW_S = 3.0
"""A refusal should take less; the nightly test prints the cases that took more."""
SHORT = {"output_dir": "runs", "steps": "1"}
"""Overrides that keep a run short which should not have started."""


@dataclass(frozen=True, kw_only=True)
class Malformed:
    """Example: Malformed(name="steps", arguments=["steps=-1"], names=["steps"])."""

    name: str
    arguments: list[str] = field(default_factory=list)
    """Overrides of the preset `quickstart`, or of `config` if there is one."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Written into the folder in which the command runs."""
    names: list[str]
    """Expressions that the one line must match: the file, row or key, and what is wrong."""
    config: str = "quickstart"
    model: dict[str, bytes | None] | None = None
    """Files of a copy of the shipped model in `model/`, replaced or (None) removed."""


@dataclass(frozen=True)
class Outcome:
    """How the command ended."""

    status: int
    line: str
    seconds: float
    faults: tuple[str, ...]
    """What is wrong with its end; empty for a right one."""


def run(case: Malformed, folder: Path, shipped: Path) -> Outcome:
    """Run `rlnorm train` on the case in an empty folder."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if case.model is not None:
        _copy_model(shipped, folder / "model", case.model)
    before = {p.relative_to(folder) for p in folder.rglob("*")}
    command = [sys.executable, "-m", "rlnorm.launch.cli", "train", case.config, *case.arguments]
    command += [f"{key}={value}" for key, value in SHORT.items() if not _sets(case, key)]
    start = time.perf_counter()
    ended = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        timeout=LONGEST_S,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )
    seconds = time.perf_counter() - start
    output = (ended.stdout + ended.stderr).decode(errors="replace").strip()
    left = {p.relative_to(folder) for p in folder.rglob("*")} - before
    written = sorted(str(p) for p in left if "__pycache__" not in p.parts)
    return Outcome(
        ended.returncode, output, seconds, _faults(case, ended.returncode, output, written)
    )


def _sets(case: Malformed, key: str) -> bool:
    return case.config != "quickstart" or any(a.startswith(f"{key}=") for a in case.arguments)


def _copy_model(shipped: Path, target: Path, changes: dict[str, bytes | None]) -> None:
    target.mkdir()
    for file in shipped.iterdir():
        if file.name not in changes:
            (target / file.name).symlink_to(file)
    for name, content in changes.items():
        if content is not None:
            (target / name).write_bytes(content)


def _faults(case: Malformed, status: int, output: str, written: list[str]) -> tuple[str, ...]:
    faults = []
    if status != 2:
        faults.append(f"exit status {status} instead of 2")
    if "\n" in output or not output.startswith("rlnorm: "):
        faults.append("not one line that begins with `rlnorm: `")
    faults += [f"does not match {e!r}" for e in case.names if not re.search(e, output)]
    if written:
        faults.append(f"left {', '.join(written[:3])}")
    return tuple(faults)
