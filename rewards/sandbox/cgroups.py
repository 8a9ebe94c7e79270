"""A cgroup for each run where this process may make one: the pids limit, and memory on version 2.

A second limit besides RLIMIT_NPROC. On most hosts an ordinary user may not make cgroups; then a run
has none, and `probe` says so.
"""

import contextlib
import functools
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from rlnorm.rewards.sandbox.types import Limits

_JAIL_PROCESSES = 4  # guard, init and one fork of each


def _own_path(controller: str) -> str | None:
    """This process's path in one hierarchy; "" names version 2."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return None


def _candidates() -> Iterator[Path]:
    for controller, mount in (("", "/sys/fs/cgroup"), ("pids", "/sys/fs/cgroup/pids")):
        path = _own_path(controller)
        if path is not None and ".." not in path:
            yield Path(mount + path)


@functools.cache
def parent() -> Path | None:
    """The cgroup in which this process may make others with a pids limit, or None."""
    for folder in _candidates():
        trial = folder / f"rlnorm-probe-{uuid.uuid4().hex[:12]}"
        try:
            trial.mkdir()
        except OSError:
            continue
        try:
            if (trial / "pids.max").exists() and os.access(trial / "cgroup.procs", os.W_OK):
                return folder
        finally:
            trial.rmdir()
    return None


@contextlib.contextmanager
def limited(limits: Limits) -> Iterator[list[str]]:
    """Folders of cgroups with the limits, for the jail to enter; empty if none can be made."""
    folder = parent()
    if folder is None:
        yield []
        return
    own = folder / f"rlnorm-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    own.mkdir()
    try:
        (own / "pids.max").write_text(str(limits.processes + _JAIL_PROCESSES))
        if (own / "memory.max").exists():
            allowed = limits.memory_bytes + limits.disk_bytes + (64 << 20)
            (own / "memory.max").write_text(str(allowed))
        yield [str(own)]
    finally:
        _remove(own)


def _remove(own: Path) -> None:
    """Remove a run's cgroup, waiting for its last process to leave."""
    deadline = time.monotonic() + 2
    while True:
        try:
            own.rmdir()
        except FileNotFoundError:
            return  # the jail removed it
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.005)
        else:
            return
