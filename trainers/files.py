"""Atomic writes, locked folders, the newest checkpoint, and reading JSON."""

import errno
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlnorm.errors import InputError


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that readers see either the old or the new content, never a part of it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def check_writable(folder: Path, what: str) -> None:
    """Refuse a folder that cannot be created or written to, without writing anything.

    what: its name in the message.
    """
    there = folder.absolute()
    try:
        while not there.exists():
            there = there.parent
    except OSError as error:  # a name too long for the file system
        raise InputError(f"{what} {folder}: {error.strerror}; choose another") from error
    if not there.is_dir():
        raise InputError(f"{what} {folder}: {there} is a file, not a folder; choose another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{what} {folder}: cannot write in {there}; choose another")


@contextmanager
def alone_in(folder: Path, what: str) -> Iterator[int]:
    """Lock a folder for this process and for those that inherit the file descriptor it yields.

    The lock ends with the last of these processes. what: name of the folder in the message.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{what} {folder}: another process is using it; wait until it ends, or set run_name"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EBADF):
                raise
            # a file system that cannot lock folders (such as NFS): continue without a lock
        yield held
    finally:
        os.close(held)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of all complete lines; a last line cut off by a crash is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [parse_json(s, f"{path} line {i}") for i, s in enumerate(lines, 1) if s.endswith("\n")]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number} is damaged: is a {type(row).__name__}")
    return rows


def finite(value: Any) -> Any:
    """The value with NaN and infinities replaced by None, which JSON can express."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def hash_files(paths: Sequence[Path]) -> str:
    """sha256 over the files' contents, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def parse_json(text: str, where: str) -> Any:
    """Parse JSON; where: the place to name in the error."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is damaged: {error}") from error


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in a run's folder `checkpoints`, or None before the first."""
    name = folder / "latest"
    if not name.is_file():
        # a run that was killed before it wrote `latest` has left a complete checkpoint all the same
        return next(reversed(saved_checkpoints(folder)), None)
    path = folder / name.read_text().strip()
    if not path.is_dir():
        raise InputError(f"{name} names {path.name}, which is missing")
    return path


def saved_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, by step."""
    return sorted(folder.glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))
