"""Start the program, watch it, kill all its processes and report; the same for levels 0 and 1."""

import os
import resource
import select
import signal
import time
from collections.abc import Callable

TYPE_CHECKING = False  # a jail starts for every run, and importing typing takes a tenth of that
if TYPE_CHECKING:
    from typing import Any

Spec = dict[str, "Any"]
"""The order of one run, as sandbox/local.py writes it."""
TICK_S = 0.02
_REAP_S = 2.0
_PAGE = os.sysconf("SC_PAGESIZE")


class Tree:
    """The processes of one run, seen from their supervisor, which inherits every orphan."""

    def __init__(self, pids: Callable[[], list[int]], kill: Callable[[], None]) -> None:
        self.pids = pids
        self.kill = kill

    def resident_bytes(self) -> int:
        """Resident memory of all processes added up; shared pages count once per process."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/statm", "rb") as file:
                    total += int(file.read().split()[1]) * _PAGE
            except (OSError, IndexError):
                continue  # it ended between the listing and the reading
        return total


def set_limits(spec: Spec, nproc_extra: int) -> None:
    """Resource limits of the calling process and of everything it starts."""
    limits = spec["limits"]
    cpu = int(limits["cpu_s"])
    for what, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, limits["disk_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, limits["processes"] + nproc_extra),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
    ):
        hard = value + 1 if what == resource.RLIMIT_CPU else value
        ceiling = resource.getrlimit(what)[1]
        if ceiling != resource.RLIM_INFINITY:
            value, hard = min(value, ceiling), min(hard, ceiling)
        resource.setrlimit(what, (value, hard))


def _start(spec: Spec, confine: Callable[[Spec], None]) -> tuple[int, str]:
    """Fork, confine and exec the program; (pid, "" or what went wrong before exec)."""
    error_r, error_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.closerange(3, error_w)
            os.closerange(error_w + 1, 1 << 16)
            for number in set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            confine(spec)
            os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
        except BaseException as error:
            os.write(error_w, f"{type(error).__name__}: {error}".encode()[:2000])
        finally:
            os._exit(127)
    os.close(error_w)
    message = b""
    while chunk := os.read(error_r, 4096):
        message += chunk
    os.close(error_r)
    return pid, message.decode(errors="replace")


def _reap(target: int, block_s: float) -> int | None:
    """Reap every process that has ended; returns the target's wait status if it is among them.

    With block_s, wait that long for the last child to end.
    """
    status, deadline = None, time.monotonic() + block_s
    while True:
        try:
            pid, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == target:
            status = raw
        if pid == 0:
            if time.monotonic() >= deadline:
                return status
            time.sleep(0.001)


def _reap_orphans(target: int) -> None:
    """Collect ended daemons, so that they do not use up the process limit; never the target."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (ended := os.waitid(os.P_ALL, 0, flags)) is not None and ended.si_pid != target:
        os.waitpid(ended.si_pid, 0)


def supervise(spec: Spec, control: int, tree: Tree, confine: Callable[[Spec], None]) -> None:
    """Run spec["argv"] to its end or its limit, kill what is left, write the report to control."""
    began = time.monotonic()
    pid, error = _start(spec, confine)
    if error:
        _reap(pid, _REAP_S)
        send(control, "error " + error.replace("\n", " ") + "\n")
        return
    cause, peak = _watch(spec, control, tree, pid, began)
    wall_s = time.monotonic() - began
    status = None
    deadline = time.monotonic() + _REAP_S
    while time.monotonic() < deadline:
        tree.kill()
        found = _reap(pid, 0.05)
        status = found if found is not None else status
        if not tree.pids():
            break
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    returncode = "none" if status is None else os.waitstatus_to_exitcode(status)
    peak = max(peak, usage.ru_maxrss * 1024)
    cpu_s = usage.ru_utime + usage.ru_stime
    report = (
        f"cause {cause}\nreturncode {returncode}\ncpu_s {cpu_s:.6f}\nwall_s {wall_s:.6f}\n"
        f"peak_rss_bytes {peak}\ndone 1\n"
    )
    send(control, report)


def _watch(spec: Spec, control: int, tree: Tree, pid: int, began: float) -> tuple[str, int]:
    """Wait for the exit, the caller's hang-up or a limit; (cause, peak resident bytes)."""
    limits = spec["limits"]
    deadline = began + limits["wall_s"]
    poller = select.poll()
    pidfd = os.pidfd_open(pid)
    poller.register(pidfd, select.POLLIN)
    poller.register(control, select.POLLIN)
    peak = 0
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return "timeout", peak
        ready = [fd for fd, _ in poller.poll(1000 * min(TICK_S, left))]
        if pidfd in ready:
            return "exit", peak
        if control in ready:
            return "killed", peak
        _reap_orphans(pid)
        resident = tree.resident_bytes()
        peak = max(peak, resident)
        if resident > limits["memory_bytes"]:
            return "memory", peak


def send(control: int, text: str) -> None:
    """Write to the caller; if it is gone, only cleaning up is left to do."""
    try:
        os.write(control, text.encode())
    except (BrokenPipeError, ConnectionResetError):
        return


def remove_cgroups(spec: Spec) -> None:
    """The caller does it too, but may have been killed; processes take a moment to leave."""
    deadline = time.monotonic() + 1
    for folder in spec["cgroups"]:
        while time.monotonic() < deadline:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.005)
            else:
                break


def is_hung_up(control: int) -> bool:
    """True when the caller has closed its end altogether."""
    poller = select.poll()
    poller.register(control, 0)
    return any(event & select.POLLHUP for _, event in poller.poll(0))
