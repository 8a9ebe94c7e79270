"""Level 1: own user, mount, pid, network, IPC, UTS and cgroup namespaces, a supervisor inside.

Processes: this guard (outside) -> init (pid 1 inside, the supervisor) -> the program.
The guard dies -> init dies (parent-death signal) -> the kernel kills everything inside.
The caller dies -> init reads the end of its control pipe, kills everything and exits.
Inside, set-up runs as uid 0 of the namespace; the program runs without any capability, and as
`nobody` where the host lets us map that id (started by root), else as uid 0 standing for the
ordinary user who started it.
"""

import os
import select

import linux
import seccomp
import supervisor

NOBODY = 65534
_NAMESPACES = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWCGROUP
)
_DEVICES = ("null", "zero", "full", "random", "urandom")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _map_ids_as_root(pid: int, go: int) -> None:
    """Runs in a helper outside: give the new namespace our ids, one to one."""
    if not os.read(go, 1):
        return  # the guard could not unshare and is gone
    for kind in ("uid", "gid"):
        with open(f"/proc/self/{kind}_map") as file:
            extents = [line.split() for line in file]
        lines = "".join(f"{inside} {inside} {count}\n" for inside, _, count in extents)
        _write(f"/proc/{pid}/{kind}_map", lines)


def _enter_namespaces() -> int:
    """Unshare and map ids; returns the uid that the program runs as."""
    if (uid := os.geteuid()) != 0:
        gid = os.getegid()
        linux.unshare(_NAMESPACES)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
        return 0
    go_r, go_w = os.pipe()
    helper = os.fork()
    if helper == 0:
        code = 1
        os.close(go_w)
        try:
            _map_ids_as_root(os.getppid(), go_r)
            code = 0
        finally:
            os._exit(code)
    linux.unshare(_NAMESPACES)
    os.write(go_w, b"1")
    if os.waitpid(helper, 0)[1] != 0:
        raise OSError("uid_map: the ids of this namespace could not be mapped (CAP_SETUID?)")
    os.close(go_r)
    os.close(go_w)
    return NOBODY


def _bind(source: str, target: str) -> None:
    """Show a folder or file of the host read-only."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _write(target, "")
    linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)
    linux.lock_mount(target)


def _mount_proc(target: str) -> bool:
    """A /proc of this pid namespace only; False where the kernel or the container refuses one."""
    os.mkdir(target)
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    for options in ("subset=pid,hidepid=2", "hidepid=2"):
        try:
            linux.mount("proc", target, "proc", flags, options)
        except OSError:
            continue
        return True
    return False


def _fill_root(spec: supervisor.Spec, uid: int) -> bool:
    """Put the programs, devices, /proc and the writable /tmp under /new; True if /proc is there."""
    # first, since a folder to show may be below it
    os.mkdir("/new/tmp")
    inodes = 1024 + spec["limits"]["disk_bytes"] // 16384
    options = f"size={spec['limits']['disk_bytes']},nr_inodes={inodes},mode=700"
    linux.mount("tmpfs", "/new/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
    for path in spec["read_only"]:
        if os.path.islink("/old" + path):
            os.symlink(os.readlink("/old" + path), "/new" + path)
        elif os.path.exists("/old" + path):
            _bind("/old" + path, "/new" + path)
    os.makedirs("/new/etc", exist_ok=True)
    _write("/new/etc/passwd", f"sandbox:x:{uid}:{uid}::/tmp:/bin/sh\n")
    _write("/new/etc/group", f"sandbox:x:{uid}:\n")
    if os.path.exists("/old/etc/ld.so.cache"):
        _bind("/old/etc/ld.so.cache", "/new/etc/ld.so.cache")
    os.mkdir("/new/dev")
    for name in _DEVICES:
        _write(f"/new/dev/{name}", "")
        linux.mount(f"/old/dev/{name}", f"/new/dev/{name}", None, linux.MS_BIND)
    os.symlink("/proc/self/fd", "/new/dev/fd")
    os.symlink("/tmp", "/new/dev/shm")
    has_proc = _mount_proc("/new/proc")
    return has_proc


def _write_files(spec: supervisor.Spec, uid: int) -> None:
    for name, content in spec["files"].items():
        path = os.path.join("/new/tmp/work", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    os.makedirs("/new/tmp/work", exist_ok=True)
    os.chown("/new/tmp", uid, uid)
    for folder, _, names in os.walk("/new/tmp/work"):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, uid, uid)


def _build_root(spec: supervisor.Spec, uid: int) -> bool:
    """Replace the file system by a small read-only one; True if it has a /proc."""
    private = linux.MS_NOSUID | linux.MS_NODEV
    # not in the guard, whose view of the file system pivot_root would change too
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", "/tmp", "tmpfs", private, "size=1m,mode=755")
    os.mkdir("/tmp/old")
    linux.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    os.mkdir("/new")
    linux.mount("tmpfs", "/new", "tmpfs", private, "size=4m,mode=755")
    has_proc = _fill_root(spec, uid)
    _write_files(spec, uid)
    os.chdir("/new")
    linux.pivot_root(".", ".")
    linux.umount(".")
    os.chdir("/")
    flags = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | private
    linux.mount(None, "/", None, flags)
    return has_proc


def _confine(spec: supervisor.Spec) -> None:
    os.chdir("/tmp/work")
    linux.drop_bounding_set(spec["last_capability"])
    linux.prctl(linux.PR_SET_SECUREBITS, linux.SECUREBITS_NO_ROOT)
    linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_CLEAR_ALL)
    uid = spec["uid"]
    if uid != 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    linux.drop_capabilities()
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    # counted per user namespace; guard and init count too when the program has their uid
    supervisor.set_limits(spec, 2 if uid == 0 else 0)
    if spec["seccomp"]:
        seccomp.load(linux.machine())


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]


def _kill() -> None:
    try:
        os.kill(-1, 9)
    except ProcessLookupError:
        return


def _init(spec: supervisor.Spec, control: int, go: int, uid: int) -> None:
    """Pid 1 of the sandbox, up to its exit."""
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    if os.read(go, 1) != b"1":
        return
    os.close(go)
    os.umask(0o022)
    with open("/proc/sys/kernel/cap_last_cap") as file:
        spec["last_capability"] = int(file.read())
    spec["uid"] = uid
    has_proc = _build_root(spec, uid)
    supervisor.send(control, f"proc {int(has_proc)}\n")
    tree = supervisor.Tree(_pids if has_proc else lambda: [], _kill)
    supervisor.supervise(spec, control, tree, _confine)


def run(spec: supervisor.Spec, control: int) -> None:
    """Build the namespaces, start init inside and wait for it; kill it if it hangs."""
    try:
        uid = _enter_namespaces()
    except OSError as error:
        supervisor.send(control, f"error namespaces: {error}\n")
        return
    go_r, go_w = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(go_w)
        try:
            _init(spec, control, go_r, uid)
        except BaseException as error:
            supervisor.send(control, f"error {type(error).__name__}: {error}\n")
        finally:
            os._exit(0)
    os.close(go_r)
    for folder in spec["cgroups"]:
        _write(f"{folder}/cgroup.procs", str(init))
    os.write(go_w, b"1")
    poller = select.poll()
    poller.register(os.pidfd_open(init), select.POLLIN)
    if not poller.poll(1000 * spec["guard_s"]):
        os.kill(init, 9)
    os.waitpid(init, 0)
    supervisor.remove_cgroups(spec)
