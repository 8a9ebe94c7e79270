"""Level 0: resource limits and a process tree that dies at the deadline. No isolation."""

import os

import linux
import supervisor


def _descendants() -> list[int]:
    found, queue = [], [os.getpid()]
    while queue:
        pid = queue.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as file:
                    children = [int(child) for child in file.read().split()]
                found += children
                queue += children
        except OSError:
            continue  # it ended meanwhile; its children are ours by now
    return found


def _kill() -> None:
    for pid in _descendants():
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue


def _confine(spec: supervisor.Spec) -> None:
    for folder in spec["cgroups"]:
        with open(f"{folder}/cgroup.procs", "w") as file:
            file.write("0")
    os.chdir(spec["folder"])
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    # the kernel counts all processes of the user here, so the run cannot have a limit of its own
    spec["limits"]["processes"] = 1 << 20
    supervisor.set_limits(spec, 0)


def run(spec: supervisor.Spec, control: int) -> None:
    """Supervise from this process; as subreaper it inherits daemons that leave their session."""
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    supervisor.supervise(spec, control, supervisor.Tree(_descendants, _kill), _confine)
    supervisor.remove_cgroups(spec)
    if supervisor.is_hung_up(control):
        import shutil

        shutil.rmtree(spec["folder"], ignore_errors=True)
