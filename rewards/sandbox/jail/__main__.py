"""Read the request from the control socket, build its level, report, exit."""

import marshal
import os
import sys

import level0
import level1


def _read_exactly(fd: int, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = os.read(fd, count - len(data))
        if not chunk:
            raise EOFError(f"control socket closed after {len(data)} of {count} bytes")
        data += chunk
    return bytes(data)


def main() -> None:
    """argv[1] is the control socket; marshal, because both ends are one interpreter."""
    control = int(sys.argv[1])
    os.set_inheritable(control, False)
    size = int.from_bytes(_read_exactly(control, 8), "little")
    spec = marshal.loads(_read_exactly(control, size))
    (level0 if spec["level"] == 0 else level1).run(spec, control)


main()
