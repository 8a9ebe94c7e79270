"""The call that runs a program, and the probe of whether this host supports level 1."""

import asyncio
import functools
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rlnorm.rewards.sandbox import cgroups
from rlnorm.rewards.sandbox.local import LocalRun, base_python
from rlnorm.rewards.sandbox.types import (
    Limits,
    SandboxError,
    SandboxResult,
    SandboxUnavailable,
    check_argv,
    check_files,
)

_log = logging.getLogger(__name__)
_DEFAULT_LIMITS = Limits()
_CHOICES = (
    "Options: allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
    "user.max_user_namespaces > 0, kernel.apparmor_restrict_unprivileged_userns=0; in a container "
    "--cap-add SYS_ADMIN or a seccomp profile that permits unshare and mount); or level 2, a "
    "SandboxFusion-compatible server; or level 0, which isolates nothing, for code you would run "
    "yourself"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Level1Facts:
    """Which optional parts of level 1 work on this host."""

    seccomp: bool
    proc: bool
    """False: no /proc inside, so memory is limited per process but not for all together."""
    pids_cgroup: bool


def python_argv(*arguments: str) -> list[str]:
    """The command that runs a Python file inside: `python_argv("main.py")`. No site-packages."""
    return [base_python(), "-S", "-s", "-B", *arguments]


def _try_level1(seccomp: bool) -> dict[str, str]:
    trial = LocalRun({}, python_argv("-c", ""), b"", Limits(), 1, seccomp=seccomp)
    result = trial.finish()
    if result.returncode != 0:
        raise SandboxError(f"the trial program ended with {result.returncode}: {result.stderr!r}")
    return trial.facts


@functools.cache
def probe() -> Level1Facts:
    """Try level 1 once per process; SandboxUnavailable says what is missing and what to do."""
    if not sys.platform.startswith("linux"):
        raise SandboxUnavailable(
            f"sandbox level 1: needs Linux, this is {sys.platform}. {_CHOICES}"
        )
    release = platform.release().split(".")
    if (int(release[0]), int(release[1])) < (5, 14):
        raise SandboxUnavailable(
            f"sandbox level 1: needs Linux 5.14, this is {platform.release()}. {_CHOICES}"
        )
    try:
        facts, seccomp = _try_level1(seccomp=True), True
    except SandboxError as first:
        try:
            facts, seccomp = _try_level1(seccomp=False), False
        except SandboxError as error:
            raise SandboxUnavailable(f"{error}. {_CHOICES}") from error
        _log.warning("sandbox level 1 runs without seccomp, which this host refuses: %s", first)
    return Level1Facts(
        seccomp=seccomp, proc=facts.get("proc") == "1", pids_cgroup=cgroups.parent() is not None
    )


def _prepare(
    files: Mapping[str, str | bytes],
    argv: Sequence[str],
    stdin: str | bytes,
    limits: Limits,
    level: int,
    read_only: Sequence[str],
) -> LocalRun:
    if level not in (0, 1):
        raise ValueError(f"sandbox level = {level!r}: run takes 0 or 1; for 2 use RemoteSandbox")
    data = stdin.encode() if isinstance(stdin, str) else bytes(stdin)
    checked, command = check_files(files), check_argv(argv)
    seccomp = probe().seccomp if level == 1 else False
    return LocalRun(checked, command, data, limits, level, read_only=read_only, seccomp=seccomp)


def run(
    files: Mapping[str, str | bytes],
    argv: Sequence[str],
    stdin: str | bytes = b"",
    limits: Limits = _DEFAULT_LIMITS,
    level: int = 1,
    *,
    read_only: Sequence[str] = (),
) -> SandboxResult:
    """Run argv in a folder that holds the files; any thread may call it.

    read_only: more folders of the host to show inside (a virtual environment, a compiler); if root
    starts the program, it must be able to read them as `nobody`.
    Raises SandboxUnavailable if the host does not support the level, and SandboxError if the
    sandbox failed or argv[0] could not be started; nothing that the program does raises.
    """
    return _prepare(files, argv, stdin, limits, level, read_only).finish()


# own threads: the loop's default executor is small, and one slow program must not stall the rest
_executor = functools.cache(lambda: ThreadPoolExecutor(64, thread_name_prefix="sandbox"))


async def run_async(
    files: Mapping[str, str | bytes],
    argv: Sequence[str],
    stdin: str | bytes = b"",
    limits: Limits = _DEFAULT_LIMITS,
    level: int = 1,
    *,
    read_only: Sequence[str] = (),
) -> SandboxResult:
    """`run` from an event loop; cancelling it kills the program."""
    loop = asyncio.get_running_loop()
    started = await loop.run_in_executor(
        _executor(), _prepare, files, argv, stdin, limits, level, read_only
    )
    try:
        return await loop.run_in_executor(_executor(), started.finish)
    except asyncio.CancelledError:
        started.kill()
        raise
