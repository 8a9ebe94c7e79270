"""Programs that try to get out of level 1 or to harm the host: small limits, nothing left."""

import os
import signal
import socket
import time
import uuid
from pathlib import Path

import pytest

from rlnorm.rewards.sandbox import Limits, SandboxResult, SandboxStatus, python_argv, run

MIB = 1 << 20
SMALL = {
    "wall_s": 10.0,
    "cpu_s": 1,
    "memory_bytes": 128 * MIB,
    "disk_bytes": 4 * MIB,
    "output_bytes": 20_000,
    "processes": 12,
    "open_files": 32,
}
HELPERS = """
import ctypes, errno, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
def attempt(action):
    try:
        return repr(action())
    except OSError as error:
        return errno.errorcode[error.errno]
"""


def _running(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found


@pytest.fixture
def attack():
    """Run a program in level 1; afterwards none of its processes may be alive anywhere."""
    marker = f"marker-{uuid.uuid4().hex}"

    def run_attack(program: str, *arguments: str, stdin: bytes = b"", **limits) -> SandboxResult:
        files = {"main.py": HELPERS + program}
        command = python_argv("main.py", *arguments, marker)
        result = run(files, command, stdin, Limits(**(SMALL | limits)))
        assert _running(marker) == []
        return result

    return run_attack


def words(result: SandboxResult) -> list[str]:
    assert result.status is SandboxStatus.OK, result
    return result.stdout.decode().split()


# processes and signals


def test_fork_bomb_stays_under_the_process_limit(attack):
    result = attack(
        """
count = 0
while True:
    try:
        if os.fork() == 0:
            time.sleep(30)
        count += 1
    except BlockingIOError:
        break
print(count, flush=True)
while True:
    try:
        os.fork()
    except BlockingIOError:
        pass
""",
        wall_s=1.5,
    )
    assert result.status is SandboxStatus.TIMEOUT
    assert 0 < int(result.stdout.split()[0]) < SMALL["processes"]


def test_thread_bomb_stays_under_the_process_limit(attack):
    result = attack(
        """
import threading
count = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        count += 1
except RuntimeError:
    print(count, flush=True)
os._exit(0)
""",
        memory_bytes=512 * MIB,
    )
    assert 0 < int(words(result)[0]) < SMALL["processes"]


def test_double_fork_daemon_dies_with_the_run(attack):
    result = attack("""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
print("parent gone")
""")
    assert words(result) == ["parent", "gone"]
    assert result.wall_s < 8


def test_killing_the_parent_and_everybody_else(attack):
    result = attack(
        """
for pid in (os.getppid(), int(sys.argv[1]), 1):
    print(attempt(lambda: os.kill(pid, signal.SIGKILL)))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
attempt(lambda: os.kill(-1, signal.SIGTERM))
os.killpg(0, signal.SIGTERM)
""",
        str(os.getpid()),
    )
    # pid 1 inside shrugs the signal off or refuses it; the host's pid means nothing inside
    init, host, again = words(result)
    assert {init, again} <= {"None", "EPERM"}
    assert host == "ESRCH"


def test_ignoring_every_signal_and_sleeping_for_ever(attack):
    began = time.monotonic()
    result = attack(
        """
for number in range(1, 32):
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_IGN)
time.sleep(1000)
""",
        wall_s=1.0,
    )
    assert result.status is SandboxStatus.TIMEOUT
    assert result.returncode is None
    assert time.monotonic() - began < 8


def test_spinning_while_ignoring_sigxcpu_ends_by_the_cpu_limit(attack):
    result = attack("signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", wall_s=30.0)
    assert result.status is SandboxStatus.TIMEOUT
    assert result.cpu_s < 4


def test_stopping_itself(attack):
    assert (
        attack("os.kill(os.getpid(), signal.SIGSTOP)", wall_s=1.0).status is SandboxStatus.TIMEOUT
    )


def test_closing_its_files_and_living_on(attack):
    result = attack("os.closerange(0, 64)\ntime.sleep(1000)", wall_s=1.0)
    assert result.status is SandboxStatus.TIMEOUT


def test_raising_its_own_limits(attack):
    result = attack("""
import resource
for what in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):
    try:
        resource.setrlimit(what, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("raised")
    except (ValueError, PermissionError):
        print("refused")
""")
    assert words(result) == ["refused"] * 3


# memory, disk, output


def test_memory_bomb_of_one_process(attack):
    result = attack("held = []\nwhile True: held.append(bytearray(1 << 20))")
    assert result.status in (SandboxStatus.FAILED, SandboxStatus.MEMORY)
    assert result.peak_rss_bytes <= 1.1 * SMALL["memory_bytes"]


def test_memory_bomb_spread_over_processes(attack):
    result = attack("""
for _ in range(6):
    if os.fork() == 0:
        break
held = []
for _ in range(40):
    held.append(bytearray(os.urandom(1 << 10)) * 1024)
    time.sleep(0.01)
time.sleep(30)
""")
    assert result.status is SandboxStatus.MEMORY


def test_memory_hidden_in_memfd_and_shared_segments(attack):
    result = attack("""
print(attempt(lambda: os.memfd_create("hidden")))
print("EPERM" if libc.shmget(0, 1 << 24, 0o1600) < 0 and ctypes.get_errno() == 1 else "made")
""")
    assert words(result) == ["EPERM", "EPERM"]


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "/tmp/work"])
def test_disk_filler(attack, folder):
    result = attack(
        """
total = 0
try:
    for number in range(100):
        with open(f"{sys.argv[1]}/{number}", "wb", buffering=0) as file:
            for _ in range(1000):
                total += file.write(bytes(1 << 16))
except OSError as error:
    print(errno.errorcode[error.errno], total)
""",
        folder,
    )
    error, total = words(result)
    assert error in ("ENOSPC", "EFBIG")
    assert int(total) <= SMALL["disk_bytes"]


def test_inode_filler(attack):
    result = attack("""
try:
    for number in range(100_000):
        open(f"f{number}", "w").close()
except OSError as error:
    print(errno.errorcode[error.errno], number)
""")
    error, count = words(result)
    assert error == "ENOSPC"
    assert int(count) < 3000


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_endless_printer_is_cut_while_reading(attack, stream):
    result = attack(f"while True: sys.{stream}.write('x' * 1000)", wall_s=30.0, cpu_s=30)
    assert result.status is SandboxStatus.OUTPUT
    assert len(getattr(result, stream)) == SMALL["output_bytes"]
    assert result.wall_s < 20


def test_open_file_bomb(attack):
    result = attack("""
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(errno.errorcode[error.errno], len(held))
""")
    assert words(result)[0] == "EMFILE"
    assert int(words(result)[1]) < SMALL["open_files"]


def test_refusing_to_read_a_large_stdin(attack):
    assert words(attack("print('done')", stdin=bytes(3 * MIB))) == ["done"]


# files of the host


def test_reading_the_hosts_files(attack, tmp_path):
    secret = tmp_path / "expected-output.txt"
    secret.write_text("42")
    paths = ("/etc/shadow", "/etc/hostname", "/root/.ssh", "/home", "/var", "/sys", str(secret))
    paths += (str(Path(__file__)), str(Path.cwd()))
    program = "for path in sys.argv[1:-1]: print(attempt(lambda: os.stat(path)))"
    assert words(attack(program, *paths)) == ["ENOENT"] * len(paths)


def test_symlinks_lead_nowhere(attack, tmp_path):
    (tmp_path / "secret").write_text("42")
    program = """
for number, path in enumerate(sys.argv[1:-1]):
    os.symlink(path, f"link{number}")
    print(attempt(lambda: open(f"link{number}").read()))
"""
    targets = ("/etc/shadow", str(tmp_path / "secret"), "../../../../../../etc/shadow")
    assert words(attack(program, *targets)) == ["ENOENT"] * 3


def test_writing_outside_its_folder(attack, tmp_path):
    program = """
for folder in ("/", "/usr", "/etc", "/dev", "/proc", os.path.dirname(os.__file__)):
    print(attempt(lambda: open(folder + "/planted", "w")))
print(attempt(lambda: open(sys.argv[1] + "/planted", "w")))
print(attempt(lambda: open("../../planted", "w")))
print(attempt(lambda: os.unlink(os.__file__)), attempt(lambda: open(sys.executable, "r+b")))
"""
    got = words(attack(program, str(tmp_path)))
    assert set(got) <= {"EROFS", "EACCES", "ENOENT", "EPERM"}
    assert len(got) == 10
    assert list(tmp_path.iterdir()) == []


def test_every_mount_is_read_only_but_its_own(attack):
    lines = attack("print(open('/proc/self/mountinfo').read())").stdout.decode().splitlines()
    options = {words[4]: words[5].split(",") for words in map(str.split, lines) if words}
    assert "/" in options
    assert "/usr" in options
    for place, flags in options.items():
        if place not in ("/tmp", "/proc") and not place.startswith("/dev/"):
            assert {"ro", "nosuid", "nodev"} <= set(flags), place


def test_nothing_survives_into_the_next_run(attack):
    attack("open('/tmp/left', 'w').write('x'); os.mkdir('/tmp/work/deep')")
    assert words(attack("print(os.listdir('/tmp'), os.listdir('.'))")) == [
        "['work']",
        "['main.py']",
    ]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\0b", "."])
def test_file_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(ValueError, match="sandbox files"):
        run({name: "x"}, ["true"])


# secrets of the caller


def test_the_callers_environment(attack, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "s3cret-token")
    result = attack("""
print(dict(os.environ))
for pid in [name for name in os.listdir("/proc") if name.isdigit()] + ["1", str(os.getppid())]:
    try:
        print(open(f"/proc/{pid}/environ").read())
    except OSError:
        pass
""")
    assert result.status is SandboxStatus.OK
    assert b"s3cret" not in result.stdout


def test_proc_tricks(attack):
    result = attack("""
for path in ("1/root/etc", "1/fd", "1/cwd", "self/root/root/.ssh"):
    print(attempt(lambda: os.listdir("/proc/" + path)))
for path in ("1/environ", "1/mem", "kcore", "kallsyms", "sysrq-trigger", "kmsg"):
    print(attempt(lambda: open("/proc/" + path, "rb")))
for path in ("sys/kernel/core_pattern", "self/uid_map", "self/oom_score_adj"):
    print(attempt(lambda: os.write(os.open("/proc/" + path, os.O_WRONLY), b"-1000")))
""")
    got = words(result)
    assert len(got) == 13
    assert set(got) <= {"ENOENT", "EACCES", "EPERM", "EROFS"}


def test_no_file_of_the_jail_is_left_open(attack):
    assert words(attack("print(*sorted(os.listdir('/proc/self/fd')))")) == ["0", "1", "2", "3"]


def test_sees_no_other_process(attack):
    result = attack("print(*[name for name in os.listdir('/proc') if name.isdigit()], os.getpid())")
    assert len(set(words(result))) == 1


# network and sockets


def test_connecting_to_the_host(attack):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        program = """
for address in ("127.0.0.1", "192.0.2.1"):
    try:
        socket.create_connection((address, int(sys.argv[1])), timeout=0.5)
        print("connected")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
        got = words(attack(program, str(server.getsockname()[1])))
        assert got == ["ENETUNREACH"] * 2 or got == ["ECONNREFUSED", "ENETUNREACH"]
        with pytest.raises(TimeoutError):
            server.accept()


def test_unix_sockets_of_the_host(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"\0rlnorm-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as by_path, socket.socket(socket.AF_UNIX) as abstract:
        by_path.bind("listener")
        by_path.listen()
        abstract.bind(name)
        abstract.listen()
        program = """
for address in (sys.argv[1], "\\0" + sys.argv[2]):
    print(attempt(lambda: socket.socket(socket.AF_UNIX).connect(address)))
"""
        got = words(attack(program, str(tmp_path / "listener")[-100:], name[1:]))
    assert got == ["ENOENT", "ECONNREFUSED"]


def test_socket_families_that_namespaces_do_not_hold(attack):
    program = "for f in (40, 16, 17, 38): print(attempt(lambda: socket.socket(f, socket.SOCK_RAW)))"
    assert words(attack(program)) == ["EAFNOSUPPORT"] * 4  # vsock, netlink, packet, alg


# privileges


def test_it_holds_no_privilege(attack):
    status = dict(
        line.split(":\t", 1)
        for line in attack("print(open('/proc/self/status').read())").stdout.decode().splitlines()
        if ":\t" in line
    )
    assert [int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [
        0
    ] * 5
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_setuid_to_root_gives_nothing(attack):
    program = """
attempt(lambda: os.setuid(0))
attempt(lambda: os.setgid(0))
print(attempt(lambda: os.chown("main.py", 12345, 12345)))
print(attempt(lambda: os.setgroups([0])))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")))
"""
    chown, setgroups, capabilities = words(attack(program))
    assert {chown, setgroups} <= {"EPERM", "EINVAL"}
    assert int(capabilities, 16) == 0


def test_setuid_binary_of_its_own_making(attack):
    program = """
import shutil, subprocess
shutil.copy("/bin/cat", "cat")
os.chmod("cat", 0o6755)
before = os.getuid()
out = subprocess.run(["./cat", "/proc/self/status"], capture_output=True, text=True).stdout
uids = next(line for line in out.splitlines() if line.startswith("Uid")).split()[1:]
print(set(uids) == {str(before)})
"""
    assert words(attack(program)) == ["True"]


def test_mount_through_ctypes(attack):
    program = """
print("EPERM" if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) < 0 else "mounted")
print("EPERM" if libc.umount2(b"/tmp", 2) < 0 else "unmounted")
print("EPERM" if libc.mount(None, b"/", None, 0x1020, None) < 0 else "remounted")
"""
    assert words(attack(program)) == ["EPERM"] * 3


def test_chroot_escape(attack):
    program = """
os.mkdir("cage")
print(attempt(lambda: os.chroot("cage")))
for _ in range(64):
    os.chdir("..")
print(*sorted(os.listdir(".")))
"""
    got = words(attack(program))
    assert got[0] == "EPERM"
    assert set(got[1:]) <= {
        "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "tmp", "usr",
        *Path(os.path.realpath(os.__file__)).parts,
    }  # fmt: skip


def test_new_namespaces_through_unshare_and_clone(attack):
    program = """
for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000):
    print("EPERM" if libc.unshare(flag) < 0 else "unshared")
numbers = {"x86_64": (56, 308), "aarch64": (220, 268)}[os.uname().machine]
print(call(numbers[0], 0x10000000 | 17, 0, 0, 0, 0))
print(call(435, 0, 0))
print(call(numbers[1], 0, 0))
"""
    assert words(attack(program)) == ["EPERM"] * 6 + ["ENOSYS", "EPERM"]


def test_ptrace_of_its_neighbours(attack):
    program = """
child = os.fork()
if child == 0:
    time.sleep(30)
print("EPERM" if libc.ptrace(16, 1, 0, 0) < 0 else "attached")
print("EPERM" if libc.ptrace(16, child, 0, 0) < 0 else "attached")
"""
    assert words(attack(program)) == ["EPERM"] * 2


def test_device_nodes(attack):
    program = """
import stat
print(attempt(lambda: os.mknod("disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))))
print(attempt(lambda: os.mknod("mem", stat.S_IFCHR | 0o666, os.makedev(1, 1))))
print(attempt(lambda: open("/dev/tty")), attempt(lambda: open("/dev/kmsg")))
"""
    assert words(attack(program)) == ["EPERM", "EPERM", "ENOENT", "ENOENT"]


def test_kernel_doors_are_shut(attack):
    from rlnorm.rewards.sandbox.jail.seccomp import DENIED

    column = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine)
    if column is None:
        pytest.skip(f"no seccomp table for {os.uname().machine}")
    numbers = [str(row[column]) for row in DENIED.values() if row[column] is not None]
    result = attack("for n in sys.argv[1:-1]: print(call(int(n), 0, 0, 0, 0, 0))", *numbers)
    assert words(result) == ["EPERM"] * len(numbers)
    assert len(numbers) > 50


def test_exit_code_zero_is_only_an_exit_code(attack):
    result = attack("print('all 12 tests passed', flush=True); os._exit(0)")
    assert (result.status, result.returncode) == (SandboxStatus.OK, 0)
    assert result.stdout == b"all 12 tests passed\n"


def test_dying_by_signal_is_no_success(attack):
    result = attack("os.kill(os.getpid(), signal.SIGSEGV)")
    assert (result.status, result.returncode) == (SandboxStatus.FAILED, -signal.SIGSEGV)
