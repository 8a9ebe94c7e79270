"""Builds the compiled engine on first use, into the user's cache folder.

The library's name contains a hash of the sources, the flags, the compiler's version and the
processor's features, so machines that share the folder never use a wrong build.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCES = ("lanes.h", "model.h", "forward.h", "sample.h", "decode.cpp")
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-pthread"),
    *("-fno-math-errno", "-Wno-psabi"),
)
_COMPILE_S = 300.0


class BuildError(RuntimeError):
    """The library could not be built; the message is one line with the cause."""


def cache_folder() -> Path:
    """RLNORM_CACHE, or the folder rlnorm in XDG_CACHE_HOME or ~/.cache."""
    if "RLNORM_CACHE" in os.environ:
        return Path(os.environ["RLNORM_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlnorm"


def find_compiler() -> str:
    """CXX, or the first of g++, clang++ and c++ on the path."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise BuildError(f"no C++ compiler ({', '.join(names)}) on the path")


def _run(command: list[str], timeout_s: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        lines = [x for x in done.stderr.splitlines() if "error" in x] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} ended with {done.returncode}: {(lines or [''])[0]}")
    return done.stdout


def _key(compiler: str, folder: Path) -> str:
    digest = hashlib.sha256(" ".join((compiler, *FLAGS)).encode())
    # the macros include the compiler's version and the instruction sets of -march=native
    digest.update(_run([compiler, *FLAGS, "-dM", "-E", "-x", "c++", os.devnull], 60.0).encode())
    for name in SOURCES:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:20]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    end_s = time.monotonic() + _COMPILE_S
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end_s:
                    raise BuildError(
                        f"waited {_COMPILE_S:g} s for the build of another process ({path})"
                    ) from None
                time.sleep(0.05)
        yield


def library() -> Path:
    """The library, compiled on first use, which takes a few seconds. Raises BuildError."""
    sources, compiler = Path(__file__).parent, find_compiler()
    target = cache_folder() / f"cpu_engine-{_key(compiler, sources)}.so"
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.with_suffix(".lock")):
            if not target.is_file():
                _compile(compiler, sources / "decode.cpp", target)
    except OSError as error:
        raise BuildError(f"cannot write the cache folder: {error}") from None
    return target


def _compile(compiler: str, source: Path, target: Path) -> None:
    handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    try:
        _run([compiler, *FLAGS, "-o", name, str(source)], _COMPILE_S)
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
