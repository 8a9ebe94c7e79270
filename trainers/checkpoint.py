"""Checkpoints that are whole or absent, and the newest of which is always known."""

import errno
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlnorm.errors import InputError
from rlnorm.trainers.files import write_atomic
from rlnorm.trainers.learner.types import Learner

FULL_BYTES = 2**20
"""Free space below which a failed write means a full disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopState:
    """What the loop itself must remember."""

    step: int = 0
    """RL steps done."""
    cursor: int = 0
    """Prompts drawn from the seeded order so far."""
    algorithm: dict[str, float] | None = None
    """State of adaptive stages (an adaptive entropy coefficient), if any."""


async def save_checkpoint(folder: Path, learner: Learner, state: LoopState, *, keep: int) -> Path:
    """Write `step_000050/` beside the others by an atomic rename, then name it in `latest`."""
    final = folder / f"step_{state.step:06d}"
    partial = folder / f".{final.name}.partial"
    for left in folder.glob(".step_*.partial"):  # by a kill while it was written
        shutil.rmtree(left)
    partial.mkdir(parents=True)
    try:
        await learner.save(partial)
        write_atomic(partial / "trainer_state" / "loop.json", json.dumps(asdict(state)))
        _sync_tree(partial)
    except Exception as error:
        free = shutil.disk_usage(folder).free
        shutil.rmtree(partial, ignore_errors=True)  # a rank may still be writing
        if free < FULL_BYTES:  # the writers below have errors of their own for it
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(final)) from error
        raise
    if final.exists():  # the same step, taken again after a resume from an older one
        shutil.rmtree(final)
    os.replace(partial, final)
    _sync(folder)  # before `latest` may name it
    write_atomic(folder / "latest", final.name + "\n")
    _prune(folder, state.step, keep)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None before the first."""
    name = folder / "latest"
    if not name.is_file():
        return None
    path = folder / name.read_text().strip()
    if not path.is_dir():
        raise InputError(f"{name} names {path.name}, which is missing")
    return path


def load_state(checkpoint: Path) -> LoopState:
    """The loop's own state of a checkpoint."""
    fields: dict[str, Any] = json.loads((checkpoint / "trainer_state" / "loop.json").read_text())
    return LoopState(**fields)


def _prune(folder: Path, newest: int, keep: int) -> None:
    """Keep the newest checkpoint, which `latest` names, and the keep - 1 before it.

    One of a later step stays: a kill between its rename and `latest` left it there, the run went on
    from an older one, and will write that step again.
    """
    steps = {int(path.name.removeprefix("step_")): path for path in folder.glob("step_*")}
    older = sorted(step for step in steps if step < newest)
    for step in older[: max(0, len(older) - (keep - 1))]:
        shutil.rmtree(steps[step])


def _sync_tree(folder: Path) -> None:
    """Make sure every byte and name is on disk before the rename makes the folder real."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot sync folders
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)
