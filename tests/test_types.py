"""The type check sees every source file: planted mistakes and a file left out make it fail."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch

from rlnorm.trainers.rollout.engine import unpack

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("rlnorm", "rewards", "trainers", "launch", "configs")
PLANTED = {
    "launch/planted.py": "from rlnorm.trainers.seeds import derive_seed\n\nderive_seed('0', 'x')\n",
    "trainers/planted.py": "import unknown_library\n",
    "rewards/not.seen.py": "",  # no name that could be imported, so mypy leaves it out
}


@pytest.mark.slow
def test_the_check_finds_what_is_planted(tmp_path):
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if (ROOT / ".mypy_cache").is_dir():  # third parties alone take a minute to read
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / ".mypy_cache")
    for path, text in PLANTED.items():
        (tmp_path / path).write_text(text)
    command = [sys.executable, str(ROOT / "tests/lint_types.py"), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 1
    found = re.findall(r"^(\S+:\d+): error: .*\[(.+)\]$", run.stdout, flags=re.MULTILINE)
    assert sorted(found) == [
        ("launch/planted.py:3", "arg-type"),
        ("trainers/planted.py:1", "import-not-found"),
    ], run.stdout
    present = sum(1 for name in FOLDERS for _ in (tmp_path / name).rglob("*.py"))
    expected = f"mypy checked {present - 1} source files, {present} are present"
    assert expected in run.stdout


def test_every_ignored_error_has_a_code_and_a_reason():
    sources = [p for name in FOLDERS for p in (ROOT / name).rglob("*.py")]
    lines = [line for path in sources for line in path.read_text().splitlines()]
    ignored = [line for line in lines if "# type: ignore" in line]
    assert ignored
    good = re.compile(r"# type: ignore\[[a-z-]+\]  # \S")
    assert [line for line in ignored if not good.search(line)] == []


def test_shapes_in_trainers_are_checked_in_the_tests():
    tokens, each = torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    stopped = torch.ones(2, dtype=torch.bool)
    assert [d.token_ids.numel() for d in unpack(tokens, torch.zeros(2, 3), each, stopped)] == [0, 0]
    with pytest.raises(jaxtyping.TypeCheckError, match="logprobs"):
        unpack(tokens, torch.zeros(2, 4), each, stopped)
