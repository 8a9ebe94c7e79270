"""The one call: what it reports, from where it can be called, and that it leaves nothing behind."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import pytest

from rlnorm.rewards.sandbox import (
    Limits,
    SandboxError,
    SandboxStatus,
    cgroups,
    probe,
    python_argv,
    run,
    run_async,
)

LEVELS = pytest.mark.parametrize("level", [0, 1])
ROOT = Path(__file__).parents[3]


def gone(marker: str, within_s: float) -> bool:
    """True once no process on this host has the marker on its command line."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        lines = []
        for entry in Path("/proc").iterdir():
            try:
                lines.append((entry / "cmdline").read_bytes())
            except OSError:
                continue
        if not any(marker.encode() in line for line in lines):
            return True
        time.sleep(0.02)
    return False


@LEVELS
def test_reports_streams_code_and_times(level):
    program = """
import sys, time, helper
print(sys.stdin.read().upper(), end="")
print("note", file=sys.stderr)
time.sleep(0.2)
end = time.process_time() + 0.1
while time.process_time() < end: pass
sys.exit(helper.CODE)
"""
    files = {"main.py": program, "helper.py": b"CODE = 3"}
    result = run(files, python_argv("main.py"), "abc\n", level=level)
    assert (result.status, result.returncode) == (SandboxStatus.FAILED, 3)
    assert (result.stdout, result.stderr) == (b"ABC\n", b"note\n")
    assert result.cpu_s >= 0.1
    assert 0.3 <= result.wall_s < 5
    assert result.peak_rss_bytes > 4 << 20


@LEVELS
def test_megabytes_through_all_three_pipes(level):
    data = os.urandom(1 << 19)
    program = "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data)\n"
    program += "sys.stderr.buffer.write(data)"
    result = run({"main.py": program}, python_argv("main.py"), data, level=level)
    assert (result.stdout, result.stderr) == (data, data)


@LEVELS
def test_nested_files_and_another_program(level):
    result = run({"a/b/c.txt": "deep"}, ["cat", "a/b/c.txt"], level=level)
    assert result.stdout == b"deep"


@LEVELS
def test_a_program_that_does_not_exist_is_an_error_and_no_verdict(level):
    with pytest.raises(SandboxError, match="FileNotFoundError"):
        run({}, ["no-such-program"], level=level)


def test_level_zero_kills_daemons_too():
    marker = f"marker-{uuid.uuid4().hex}"
    program = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(60)
    os._exit(0)
time.sleep(0.1)
"""
    result = run({"main.py": program}, python_argv("main.py", marker), level=0)
    assert result.status is SandboxStatus.OK
    assert gone(marker, 1)


def test_level_zero_ends_at_the_deadline_and_removes_its_folder():
    result = run({}, ["sleep", "60"], limits=Limits(wall_s=0.3), level=0)
    assert result.status is SandboxStatus.TIMEOUT
    assert result.wall_s < 10
    assert _left_behind(os.getpid()) == []


@LEVELS
def test_the_environment_is_made_up(level, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "s3cret")
    assert b"s3cret" not in run({}, ["env"], level=level).stdout


def test_read_only_shows_another_folder(tmp_path):
    (tmp_path / "data.txt").write_text("shown")
    for path in (tmp_path, tmp_path / "data.txt"):
        path.chmod(0o777)
    command = ["sh", "-c", f"cat {tmp_path}/data.txt; touch {tmp_path}/x || echo refused"]
    assert run({}, command).stdout == b"refused\n"
    assert run({}, command, read_only=[str(tmp_path)]).stdout == b"shownrefused\n"
    with pytest.raises(ValueError, match="read_only"):
        run({}, command, read_only=["relative"])


def test_many_threads_at_once():
    results: list[bytes] = []

    def work(number: int) -> None:
        results.append(run({}, ["echo", str(number)]).stdout)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(int(out) for out in results) == list(range(12))


async def test_slow_programs_overlap_in_a_loop():
    began = time.monotonic()
    results = await asyncio.gather(*(run_async({}, ["sleep", "1.5"]) for _ in range(8)))
    assert {result.status for result in results} == {SandboxStatus.OK}
    assert time.monotonic() - began < 9  # one after another they need 12


async def test_cancelling_kills_the_program():
    marker = f"marker-{uuid.uuid4().hex}"
    program = python_argv("-c", "import time; time.sleep(60)", marker)
    task = asyncio.create_task(run_async({}, program, limits=Limits(wall_s=60)))
    while gone(marker, 0.05):
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(gone, marker, 3)


@LEVELS
def test_the_program_dies_with_a_killed_caller(level):
    marker = f"marker-{uuid.uuid4().hex}"
    caller = f"""
import sys
from rlnorm.rewards.sandbox import Limits, python_argv, run
run({{}}, python_argv("-c", "import time; time.sleep(60)", sys.argv[1][::-1]),
    limits=Limits(wall_s=60), level={level})
"""
    process = subprocess.Popen([sys.executable, "-c", caller, marker[::-1]])
    try:
        while gone(marker, 0.05):
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert gone(marker, 5)
    deadline = time.monotonic() + 5
    while (left := _left_behind(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


def _left_behind(pid: int) -> list[Path]:
    """Cgroups of a caller, and level 0 folders whose name carries its process id."""
    parent = cgroups.parent()
    found = [] if parent is None else list(parent.glob(f"rlnorm-{pid}-*"))
    return found + list(Path(tempfile.gettempdir()).glob(f"rlnorm-sandbox-{pid}-*"))


def test_the_program_dies_with_a_killed_guard():
    marker = f"marker-{uuid.uuid4().hex}"
    errors: list[str] = []

    def call() -> None:
        program = python_argv("-c", "import time; time.sleep(60)", marker)
        try:
            run({}, program, limits=Limits(wall_s=60))
        except SandboxError as error:
            errors.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    while gone(marker, 0.05):
        assert thread.is_alive()
    children = Path(f"/proc/self/task/{thread.native_id}/children").read_text().split()
    (guard,) = [pid for pid in children if b"jail" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(guard), signal.SIGKILL)
    assert gone(marker, 3)
    thread.join(10)
    assert errors[0].startswith("sandbox level 1: ")


def test_no_child_and_no_cgroup_is_left():
    run({}, ["true"])
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
    for pid in children.split():
        assert b"jail" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert _left_behind(os.getpid()) == []


@pytest.mark.parametrize(
    ("name", "value"), [("wall_s", 0), ("cpu_s", 1.5), ("processes", -1), ("memory_bytes", 0)]
)
def test_limits_are_checked(name, value):
    with pytest.raises(ValueError, match=f"limits.{name}"):
        Limits(**{name: value})


@pytest.mark.parametrize("argv", [[], "ls", ["a\0b"], [1]])
def test_argv_is_checked(argv):
    with pytest.raises(ValueError, match="argv"):
        run({}, argv)


def test_another_level_is_refused():
    with pytest.raises(ValueError, match="RemoteSandbox"):
        run({}, ["true"], level=2)


def test_the_probe_knows_this_host():
    facts = probe()
    status = run({}, ["cat", "/proc/self/status"])
    assert facts.proc == (status.returncode == 0)
    if facts.proc:
        assert facts.seccomp == (b"Seccomp:\t2" in status.stdout)


def _where_namespaces_are_forbidden(script: str) -> subprocess.CompletedProcess[str]:
    outer = 'echo 0 > /proc/sys/user/max_user_namespaces && exec $0 -c "$1"'
    return subprocess.run(
        ["unshare", "-Ur", "sh", "-c", outer, sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_without_namespaces_it_refuses_and_says_what_to_do():
    script = "from rlnorm.rewards.sandbox import run; print(run({}, ['echo', 'hi']).stdout)"
    done = _where_namespaces_are_forbidden(script)
    assert done.returncode != 0
    assert "SandboxUnavailable: sandbox level 1: namespaces: " in done.stderr
    assert "level 0, which isolates nothing" in done.stderr
    assert "hi" not in done.stdout
    chosen = _where_namespaces_are_forbidden(script.replace("'hi']", "'hi'], level=0"))
    assert chosen.stdout == "b'hi\\n'\n"


def test_an_ordinary_user_gets_the_same_walls():
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    python = "/usr/bin/python3"
    probe_script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import rlnorm.rewards.sandbox as s; "
    )
    probe_script += """
out = s.run({}, s.python_argv("-c", '''
import os, socket
def attempt(action):
    try: return repr(action())
    except OSError as error: return type(error).__name__
print(attempt(lambda: open("/etc/shadow")), attempt(lambda: open("/x", "w")),
      attempt(lambda: os.chroot("/tmp")), attempt(lambda: os.kill(1, 9)),
      attempt(lambda: socket.create_connection(("127.0.0.1", 80))))
count = 0
try:
    while os.fork(): count += 1
    os._exit(0 * __import__("time").sleep(5))
except BlockingIOError: print(count < 12)
'''), limits=s.Limits(processes=12, wall_s=5))
print(out.stdout.decode())
"""
    with tempfile.TemporaryDirectory() as folder:
        # laid out as installed, for a Python that lacks this package and another user to read
        package = Path(folder) / "rlnorm"
        shutil.copytree(ROOT / "rlnorm", package)
        shutil.copytree(ROOT / "rewards", package / "rewards")
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [python, "-B", "-c", probe_script, folder],
            capture_output=True, text=True, user=65534, group=65534, extra_groups=[], cwd="/",
            env={"PATH": "/usr/bin:/bin"}, timeout=60,
        )  # fmt: skip
    if done.returncode != 0 and ("PermissionError" in done.stderr or "Syntax" in done.stderr):
        pytest.skip(f"{python} as nobody cannot read this package: {done.stderr[-200:]}")
    first, last = done.stdout.split("\n")[:2]
    assert first.split()[:3] == ["FileNotFoundError", "OSError", "PermissionError"]
    assert first.split()[3] in ("None", "PermissionError")
    assert first.split()[4] in ("OSError", "ConnectionRefusedError")
    assert last == "True"
