"""Checkpoints, each complete or absent; `latest` names the newest one."""

import errno
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.files import write_atomic
from rlnorm.trainers.learner.types import Learner
from rlnorm.trainers.record.run_dir import dump_config

FULL_BYTES = 2**20
"""A failed write with less free space than this means that the disk is full."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopState:
    """The loop's own part of a checkpoint."""

    step: int = 0
    """RL steps completed."""
    cursor: int = 0
    """Prompts drawn from the seeded order so far."""
    algorithm: dict[str, float] | None = None
    """State of adaptive stages, such as an adaptive entropy coefficient."""


async def save_checkpoint(
    folder: Path, learner: Learner, state: LoopState, *, config: Config
) -> Path:
    """Write `step_000050/`, complete or not at all, then name it in `latest`.

    It holds the config that it was made with, which a resume compares with its own.
    """
    final = folder / f"step_{state.step:06d}"
    partial = folder / f".{final.name}.partial"
    for left in folder.glob(".step_*.partial"):  # left by a run that was killed while writing
        shutil.rmtree(left)
    partial.mkdir(parents=True)
    try:
        await learner.save(partial)
        write_atomic(partial / "trainer_state" / "loop.json", json.dumps(asdict(state)))
        write_atomic(partial / "config.yaml", dump_config(config))
        for path in (*partial.rglob("*"), partial):  # on disk before the rename makes it visible
            _sync(path)
    except Exception as error:
        free = shutil.disk_usage(folder).free
        shutil.rmtree(partial, ignore_errors=True)  # a rank may still be writing
        if free < FULL_BYTES:  # libraries report a full disk with various errors
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(final)) from error
        raise
    if final.exists():  # the run was resumed from an older checkpoint and took this step again
        shutil.rmtree(final)
    os.replace(partial, final)
    _sync(folder)  # before `latest` may name it
    write_atomic(folder / "latest", final.name + "\n")
    _prune(folder, state.step, config.keep_checkpoints)
    return final


def load_state(checkpoint: Path) -> LoopState:
    """The loop's part of a checkpoint."""
    fields: dict[str, Any] = json.loads((checkpoint / "trainer_state" / "loop.json").read_text())
    return LoopState(**fields)


def _prune(folder: Path, newest: int, keep: int) -> None:
    """Delete all but the newest checkpoint, which `latest` names, and the keep - 1 before it.

    Checkpoints of later steps stay: they are left from before the run was resumed from an older
    one, and will be written again.
    """
    steps = {int(path.name.removeprefix("step_")): path for path in folder.glob("step_*")}
    older = sorted(step for step in steps if step < newest)
    for step in older[: max(0, len(older) - (keep - 1))]:
        shutil.rmtree(steps[step])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot sync folders
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)
