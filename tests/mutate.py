"""Break one thing at a time and see a test fail: tests/mutate.py [WORD | MODULE OLD NEW TEST].

Works on a copy in a temporary folder, merged as it is installed: rlnorm/ with trainers/, rewards/,
launch/ and configs/ inside. What is broken is in mutations.py. WORD picks modules, every=N each
N-th mutation; MODULE OLD NEW TEST is one mutation more, as a line of MUTATIONS has it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch  # noqa: F401 - imported once, before the forks

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from mutations import MUTATIONS  # noqa: E402

ROOMS = ("rewards", "trainers", "launch", "configs")
NOT_THE_COPY = 99
"""Exit status of a child that imported rlnorm from somewhere else."""


def make_copy(folder: Path) -> dict[str, str]:
    """Lay the installed form and its tests into `folder`; returns an environment that uses it."""
    ignore = shutil.ignore_patterns("__pycache__")
    for room in ("rlnorm", *ROOMS):
        target = folder / "rlnorm" / (room if room in ROOMS else "")
        shutil.copytree(ROOT / room, target, ignore=ignore, dirs_exist_ok=True)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    # for the processes that tests start; none may leave or read bytecode of another mutation
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    names = ["rlnorm", *(f"rlnorm.{room}" for room in ROOMS)]
    code = f"import importlib as i\nfor n in {names}: print(i.import_module(n).__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    for file in done.stdout.splitlines():
        if not Path(file).is_relative_to(folder):
            raise RuntimeError(f"a process started by a test imports {file}, not the copy {folder}")
    return environment


def run_tests(copy: Path, environment: dict[str, str], test: str) -> int:
    """Exit status of a test file of the copy, run in a fork that has torch but not rlnorm."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.chdir(copy)
    os.environ.update(environment)
    sys.path[0] = str(copy)
    sys.dont_write_bytecode = True
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    options += ["-m", "not nightly"]
    status = int(pytest.main([*options, test]))
    ours = [m for name, m in sys.modules.items() if name.partition(".")[0] == "rlnorm"]
    files = [Path(file) for m in ours if (file := getattr(m, "__file__", None))]
    strays = [file for file in files if not file.is_relative_to(copy)]
    if strays or not files:
        print(f"imported from outside the copy: {strays[:3]}", file=sys.stderr)
        os._exit(NOT_THE_COPY)
    os._exit(status)


def survives(
    copy: Path, environment: dict[str, str], module: str, old: str, new: str, test: str
) -> bool:
    """Whether the tests still pass with the replacement made."""
    file = copy / "rlnorm" / module
    text = file.read_text()
    file.write_text(text.replace(old, new))
    status = run_tests(copy, environment, test)
    file.write_text(text)
    if status == NOT_THE_COPY:
        raise RuntimeError(f"{test} does not test the copy in {copy}")
    return status == 0


def test_path(module: str, test: str) -> str:
    """Where a mutation's test lies."""
    room = module.partition("/")[0]
    return f"tests/{room if room in ROOMS else 'rlnorm'}/{test}"


def main(arguments: list[str]) -> int:
    """Report every mutation; exit status 1 when a test missed one."""
    word = "".join(arguments)
    if len(arguments) == 4:
        chosen = [tuple(arguments)]
    elif word.startswith("every="):
        chosen = MUTATIONS[:: int(word.removeprefix("every="))]
    else:
        chosen = [m for m in MUTATIONS if word in m[0]]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        environment = make_copy(copy)
        chosen = [(m, old, new, test_path(m, test)) for m, old, new, test in chosen]
        for module, old, *_ in chosen:
            if old not in (copy / "rlnorm" / module).read_text():
                raise ValueError(f"{module} has no {old!r}: mutate something that is there")
        for test in sorted({test for *_, test in chosen}):
            if not survives(copy, environment, "__init__.py", "rlnorm", "rlnorm", test):
                raise RuntimeError(f"{test} fails without any mutation")
        for module, old, new, test in chosen:
            survived = survives(copy, environment, module, old, new, test)
            missed += survived
            print(f"{'MISSED' if survived else 'caught'} {module}: {old!r} -> {new!r}", flush=True)
    print(f"{len(chosen) - missed} caught, {missed} missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
