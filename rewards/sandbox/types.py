"""Limits, result and errors of one sandboxed run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import PurePosixPath


class SandboxError(RuntimeError):
    """The sandbox itself failed; the program got no verdict. Not the same as a wrong answer."""


class SandboxUnavailable(SandboxError):
    """This host does not support the level; says what is missing and how to choose another."""


class SandboxStatus(StrEnum):
    """How a run ended."""

    OK = "ok"
    """The program exited with code 0. This says nothing about its output."""
    FAILED = "failed"
    """Another exit code, or a signal."""
    TIMEOUT = "timeout"
    """The wall-clock or CPU limit was reached; all processes were killed."""
    MEMORY = "memory"
    """The process tree's resident memory exceeded the limit. A single process that cannot allocate
    more sees ENOMEM first and usually ends as `failed`."""
    OUTPUT = "output"
    """stdout or stderr exceeded the limit; the output up to it is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of one run; every one is positive. Units are in the names."""

    wall_s: float = 10.0
    cpu_s: int = 5
    """CPU seconds of one process; an integer, since the kernel counts in seconds."""
    memory_bytes: int = 512 << 20
    """Address space of one process, and resident memory of the tree (polled every 20 ms)."""
    disk_bytes: int = 64 << 20
    """All files together (level 1); the largest single file (level 0)."""
    output_bytes: int = 1 << 20
    """Of stdout and stderr each."""
    processes: int = 32
    """Processes and threads alive at once."""
    open_files: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"sandbox limits.{field.name} = {value!r}: must be positive")
        if self.cpu_s != int(self.cpu_s):
            raise ValueError(f"sandbox limits.cpu_s = {self.cpu_s!r}: must be whole seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxResult:
    """One finished run."""

    status: SandboxStatus
    returncode: int | None
    """Exit code, or minus the signal; None when the sandbox ended the run."""
    stdout: bytes
    stderr: bytes
    cpu_s: float
    """User and system time of all processes."""
    wall_s: float
    """From the start of the program to its end, set-up left out."""
    peak_rss_bytes: int
    """Largest of any process, or of the process tree if polling saw more."""


def check_files(files: Mapping[str, str | bytes]) -> dict[str, bytes]:
    """The files as bytes. Raises ValueError for a path that may leave the work folder."""
    checked = {}
    for name, content in files.items():
        path = PurePosixPath(name)
        if not name or "\0" in name or path.is_absolute() or ".." in path.parts or path.name == "":
            raise ValueError(
                f"sandbox files: {name!r}: must be a relative path without '..' or NUL"
            )
        checked[str(path)] = content.encode() if isinstance(content, str) else bytes(content)
    return checked


def check_argv(argv: Sequence[str]) -> list[str]:
    """argv as a list. Raises ValueError if it is empty or an argument is not a plain string."""
    if isinstance(argv, str) or not argv or any(not isinstance(a, str) or "\0" in a for a in argv):
        raise ValueError(f"sandbox argv = {argv!r}: must be a non-empty list of strings")
    return list(argv)
