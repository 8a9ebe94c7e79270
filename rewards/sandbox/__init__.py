"""Run a program that a model wrote: `run(files, argv, stdin, limits, level=1)`.

Level 1, the default: own user, mount, pid, network, IPC, UTS and cgroup namespaces; a read-only
root that holds the system's programs and the Python installation and nothing else (no /etc but a
made-up passwd, no /home, no /root, no project); a private /tmp of limited size; no capabilities,
no_new_privs, resource limits, a seccomp deny list, a pids cgroup where one can be made. Output is
cut while it is read, and all processes are killed at the deadline. Needs Linux 5.14 and
unprivileged user namespaces, or root with CAP_SYS_ADMIN.
Level 0: resource limits, an empty environment and the same killing of all processes, no isolation:
the program reads what you can read, reaches the network and can kill you. Only for code you would
run yourself, and only if you ask for it.

What level 1 does not cover: a bug in the kernel, and side channels of shared hardware. It shares
the kernel, so a virtual machine (level 2 behind one) is the stronger choice for hostile code.
CPU time is limited per process and by the wall clock, not in total: a run may keep all `processes`
busy until its deadline. Kernel memory (pipes, sockets, page tables) is bounded only by the limits
on files and processes, and files in /tmp count in addition to memory_bytes.
Resident memory is polled, so a process tree can exceed its limit for about 20 ms.
Files of the system and of the Python installation that are readable by all can be read.
"""

from rlnorm.rewards.sandbox.api import probe, python_argv, run, run_async
from rlnorm.rewards.sandbox.remote import RemoteSandbox
from rlnorm.rewards.sandbox.types import (
    Limits,
    SandboxError,
    SandboxResult,
    SandboxStatus,
    SandboxUnavailable,
)

__all__ = [
    "Limits",
    "RemoteSandbox",
    "SandboxError",
    "SandboxResult",
    "SandboxStatus",
    "SandboxUnavailable",
    "probe",
    "python_argv",
    "run",
    "run_async",
]
