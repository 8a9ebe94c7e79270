"""One worker process of the pool, as its parent sees it: its socket, its start and its end."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from multiprocessing.connection import Connection

_BOOT = (
    "import sys, json; a = json.loads(sys.argv[1]); sys.path[:] = a['path'];"
    "from rlnorm.rewards.worker import main; main(a['fd'], a['parent'], a['memory'])"
)
_SOCKET_TIMEOUT_S = 10.0


class Process:
    """A started worker. memory_bytes: limit of its data."""

    def __init__(self, memory_bytes: int) -> None:
        ours, child = socket.socketpair()
        limit = struct.pack("ll", int(_SOCKET_TIMEOUT_S), 0)
        # a stuck child must not block the dispatcher in the middle of a message
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        fd = child.fileno()
        boot = {"path": sys.path, "fd": fd, "parent": os.getpid(), "memory": memory_bytes}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(boot)],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=2,  # a print in a reward must not mix with our output
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            start_new_session=True,
        )
        child.close()
        self.conn = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """Process id, which is also that of its group."""
        return self._process.pid

    def kill(self) -> int | None:
        """End its process group and wait for it; returns the exit code. May be repeated."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # the group is gone already
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=10)
            self.conn.close()
        return self._process.returncode
