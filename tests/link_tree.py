"""The source tree as it looks when installed, out of links: python tests/link_tree.py FOLDER.

`rlnorm.trainers` and its siblings lie beside rlnorm/, not in it; tools that follow neither an
editable install nor setuptools' package-dir (mypy, a bare PYTHONPATH) read this tree instead.
"""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("rewards", "trainers", "launch", "configs")


def make_link_tree(folder: Path, source: Path = ROOT, pattern: str = "*") -> Path:
    """Make folder/rlnorm anew out of links to the matching files of `source`; returns `folder`."""
    package = folder / "rlnorm"
    shutil.rmtree(package, ignore_errors=True)
    for room in ("rlnorm", *ROOMS):
        target = package if room == "rlnorm" else package / room
        for path in sorted((source / room).rglob(pattern)):
            link = target / path.relative_to(source / room)
            if path.is_file() and "__pycache__" not in path.parts:
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
    return folder


if __name__ == "__main__":
    make_link_tree(Path(sys.argv[1]))
