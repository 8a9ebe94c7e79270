"""Levels 0 and 1 from the caller's side: one jail process per run, in the main thread or any other.

No signals, no threads, no global state: a run is a child process, three pipes and a socket, and
closing the socket ends it. So it works in threads, event loops and Ray actors alike.
"""

import contextlib
import marshal
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rlnorm.rewards.sandbox import cgroups
from rlnorm.rewards.sandbox.types import Limits, SandboxError, SandboxResult, SandboxStatus

_JAIL = str(Path(__file__).with_name("jail"))
_CHUNK = 1 << 16
_DRAIN_S = 0.5
SETUP_S = 20.0
"""How long building the jail may take on a busy host before the run counts as failed."""
_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


def base_python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _read_only_folders(extra: Sequence[str]) -> list[str]:
    prefix = os.path.realpath(sys.base_prefix)
    own = [] if prefix.startswith("/usr/") or prefix == "/usr" else [prefix]
    for path in extra:
        if not os.path.isabs(path) or not os.path.exists(path):
            raise ValueError(f"sandbox read_only: {path!r}: must be an existing absolute path")
    return [*_SYSTEM_FOLDERS, *own, *(os.path.realpath(path) for path in extra)]


def _environment(home: str) -> dict[str, str]:
    return {
        "PATH": f"{os.path.dirname(base_python())}:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def _work_folder(level: int, files: Mapping[str, bytes]) -> Iterator[str]:
    """Level 0 works in a folder of the host; level 1 in a tmpfs of its own."""
    if level == 1:
        yield "/tmp"
        return
    prefix = f"rlnorm-sandbox-{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield folder


class LocalRun:
    """One run; `finish` drives it in the calling thread, `kill` may come from another."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        argv: Sequence[str],
        stdin: bytes,
        limits: Limits,
        level: int,
        *,
        read_only: Sequence[str] = (),
        seccomp: bool = True,
    ) -> None:
        self._files, self._stdin, self._limits, self._level = files, stdin, limits, level
        self._spec: dict[str, Any] = {
            "level": level,
            "argv": list(argv),
            "files": dict(files) if level == 1 else {},
            "limits": {name: getattr(limits, name) for name in limits.__slots__},
            "read_only": _read_only_folders(read_only),
            "seccomp": seccomp,
            "guard_s": SETUP_S + limits.wall_s + 2,
        }
        self._killed = self._over = False
        self._taken: dict[str, bytearray] = {}
        self._control: socket.socket | None = None
        self.facts: dict[str, str] = {}
        """What the jail reported about itself, for the probe."""

    def kill(self) -> None:
        """End the run from another thread; `finish` then returns soon."""
        self._killed = True
        if self._control is not None:
            with contextlib.suppress(OSError):  # it has just ended by itself
                self._control.shutdown(socket.SHUT_WR)

    def finish(self) -> SandboxResult:
        """Run to the end, the limit or `kill`; SandboxError when the jail gives no report."""
        try:
            return self._finish()
        except OSError as error:  # out of processes, files or cgroups: not the program's fault
            raise SandboxError(f"sandbox level {self._level}: {error}") from error

    def _finish(self) -> SandboxResult:
        with (
            _work_folder(self._level, self._files) as folder,
            cgroups.limited(self._limits) as folders,
        ):
            spec = self._spec | {"folder": folder, "env": _environment(folder), "cgroups": folders}
            ours, child = socket.socketpair()
            with ours:
                with child:
                    process = self._launch(child)
                with process:
                    try:
                        return self._drive(process, ours, marshal.dumps(spec))
                    finally:
                        process.kill()

    def _launch(self, control: socket.socket) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [base_python(), "-I", "-S", _JAIL, str(control.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(control.fileno(),),
            env={},
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )

    def _drive(
        self, process: subprocess.Popen[bytes], control: socket.socket, spec: bytes
    ) -> SandboxResult:
        control.settimeout(SETUP_S)
        with contextlib.suppress(OSError):  # a jail that died early is reported by _result
            control.sendall(len(spec).to_bytes(8, "little") + spec)
        self._control = control
        if self._killed:
            self.kill()
        assert process.stdin is not None
        self._taken = {"stdout": bytearray(), "stderr": bytearray(), "control": bytearray()}
        pending = memoryview(self._stdin)
        deadline = time.monotonic() + SETUP_S + self._limits.wall_s + 5
        with selectors.DefaultSelector() as selector:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, "stdin")
            for name in ("stdout", "stderr"):
                selector.register(getattr(process, name), selectors.EVENT_READ, name)
            selector.register(control, selectors.EVENT_READ, "control")
            while waiting := {key.data for key in selector.get_map().values()} - {"stdin"}:
                left = deadline - time.monotonic()
                if left <= 0 and "control" in waiting:
                    raise SandboxError(f"sandbox level {self._level}: the jail gave no report")
                if left <= 0:
                    break
                for key, _ in selector.select(left):
                    if key.data == "stdin":
                        pending = self._feed(selector, process.stdin, pending)
                    elif not self._take(key):
                        selector.unregister(key.fileobj)
                        if key.data == "control":
                            deadline = time.monotonic() + _DRAIN_S
        return self._result()

    def _feed(
        self, selector: selectors.BaseSelector, stdin: IO[bytes], pending: memoryview
    ) -> memoryview:
        """Write what the pipe takes; close it when all is written or nobody reads."""
        try:
            pending = pending[os.write(stdin.fileno(), pending[:_CHUNK]) :] if pending else pending
        except BrokenPipeError:
            pending = pending[:0]
        if not pending:
            selector.unregister(stdin)
            stdin.close()
        return pending

    def _take(self, key: selectors.SelectorKey) -> bool:
        """Read once, keep what the limit allows, end the run beyond it; False at the end."""
        try:
            data = os.read(key.fd, _CHUNK)
        except ConnectionResetError:
            data = b""
        kept = self._taken[key.data]
        room = self._limits.output_bytes - len(kept) if key.data != "control" else _CHUNK
        kept += data[:room]
        if len(data) > room:
            self._over = True
            self.kill()
        return bool(data)

    def _result(self) -> SandboxResult:
        text = self._taken["control"].decode(errors="replace")
        self.facts = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        stdout, stderr = bytes(self._taken["stdout"]), bytes(self._taken["stderr"])
        if "error" in self.facts or "done" not in self.facts:
            reason = self.facts.get("error") or f"no report; stderr {stderr[-500:]!r}"
            raise SandboxError(f"sandbox level {self._level}: {reason}")
        cause, code = self.facts["cause"], self.facts["returncode"]
        returncode = int(code) if cause == "exit" and code != "none" else None
        return SandboxResult(
            status=self._status(cause, returncode),
            returncode=returncode,
            stdout=stdout,
            stderr=stderr,
            cpu_s=float(self.facts["cpu_s"]),
            wall_s=float(self.facts["wall_s"]),
            peak_rss_bytes=int(self.facts["peak_rss_bytes"]),
        )

    def _status(self, cause: str, returncode: int | None) -> SandboxStatus:
        if self._over:
            return SandboxStatus.OUTPUT
        if cause == "killed":
            raise SandboxError(f"sandbox level {self._level}: killed by the caller")
        if cause in ("timeout", "memory"):
            return SandboxStatus(cause)
        cpu_killed = returncode == -signal.SIGKILL and (
            float(self.facts["cpu_s"]) >= self._limits.cpu_s
        )
        if returncode == -signal.SIGXCPU or cpu_killed:
            return SandboxStatus.TIMEOUT
        return SandboxStatus.OK if returncode == 0 else SandboxStatus.FAILED
