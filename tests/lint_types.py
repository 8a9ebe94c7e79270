"""mypy --strict over every source file: python tests/lint_types.py [CHECKOUT] (make lint).

mypy does not follow the editable install: in the checkout it takes `rlnorm.trainers` for an unknown
third party and checks nothing of it. So it runs in a tree of links laid out as installed, and must
report as many files as the checkout holds.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from link_tree import ROOMS, ROOT, make_link_tree

JAIL = "rewards/sandbox/jail"
"""Its modules are scripts that import one another by bare name, so they lie at the tree's top."""


def check(source: Path) -> tuple[bool, str]:
    """Whether the checkout `source` is clean, and what mypy reports, with the paths in `source`."""
    tree = source / "build" / "types"
    shutil.rmtree(tree, ignore_errors=True)
    make_link_tree(tree, source, "*.py")
    scripts = [p for p in (tree / "rlnorm" / JAIL).iterdir() if p.name != "__init__.py"]
    for script in scripts:
        script.rename(tree / script.name)
    command = [sys.executable, "-m", "mypy", "--config-file", str(source / "pyproject.toml")]
    command += ["--cache-dir", str(source / ".mypy_cache"), "--no-pretty", "-p", "rlnorm"]
    command += [word for script in scripts for word in ("-m", script.stem)]
    run = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    said = re.sub(r"^[^:\n]+\.py(?=:)", lambda m: _own(m[0], tree, source), run.stdout, flags=re.M)
    present = sum(1 for room in ("rlnorm", *ROOMS) for _ in (source / room).rglob("*.py"))
    counts = re.findall(r"(?:checked|found in) (\d+) source file", run.stdout)
    if counts != [str(present)]:
        said += f"mypy checked {' '.join(counts) or 'no'} source files, {present} are present\n"
    return run.returncode == 0 and counts == [str(present)], said + run.stderr


def _own(path: str, tree: Path, source: Path) -> str:
    real = (tree / path).resolve()
    return str(real.relative_to(source)) if real.is_relative_to(source) else path


if __name__ == "__main__":
    clean, said = check(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT)
    print(said, end="")
    sys.exit(not clean)
