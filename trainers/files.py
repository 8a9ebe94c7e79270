"""Files that are complete or absent, and folders that one process holds."""

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
    """Write a file so that readers see the old one or the new one, never a half."""
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
    """Refuse a place where no folder can be made or written; nothing is written here.

    what: names it in the message.
    """
    there = folder.absolute()
    try:
        while not there.exists():
            there = there.parent
    except OSError as error:  # a name too long for the file system
        raise InputError(f"{what} {folder}: {error.strerror}; name another") from error
    if not there.is_dir():
        raise InputError(f"{what} {folder}: {there} is a file, not a folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{what} {folder}: cannot write in {there}; name another")


@contextmanager
def alone_in(folder: Path, what: str) -> Iterator[int]:
    """Hold a folder for this process and for those that inherit the file descriptor it yields.

    Whatever ends them lets go of it. what: names the folder in the message.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{what} {folder}: another process works in it; wait for its end, or set run_name"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EBADF):
                raise
            # a file system without locks, or one (NFS) that locks no folders: held by nobody
        yield held
    finally:
        os.close(held)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a last line cut off by a crash is left out."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if line.endswith("\n"):
            rows.append(parse_json(line, f"{path} line {number}"))
    return rows


def finite(value: Any) -> Any:
    """Infinite and missing numbers as null, which every JSON reader takes."""
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
    """A JSON text; where: names the file in the error."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{where}: is damaged: {error}") from error
