"""A user's function in a file of their own, outside of this tree."""

import subprocess
import sys
from pathlib import Path

import torch

from rlnorm.algorithms import resolve_algorithm

PLUGIN = '''
"""Rewards over the largest of the group."""

def over_best(rewards, group_index, *, power: float = 1.0):
    total = rewards.sum(dim=1)
    best = total.new_zeros(int(group_index.max()) + 1)
    best = best.scatter_reduce(0, group_index, total, "amax")
    return (total / best[group_index]) ** power - 1
'''

DATA = {
    "rewards": torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64),
    "group_index": torch.tensor([0, 0, 0]),
}


def test_from_a_file_with_its_options(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    spec = {"name": f"{file}:over_best", "power": 2.0}
    result = resolve_algorithm("grpo", {"estimator": spec}).advantages(DATA)
    assert result.values.tolist() == [1 / 16 - 1, 1 / 4 - 1, 0]
    assert result.keep.tolist() == [True, True, True]


def test_from_a_package_of_their_own_in_another_folder(tmp_path):
    package = tmp_path / "their_pkg"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text(PLUGIN)
    script = (
        "import torch\n"
        "from rlnorm.algorithms import resolve_algorithm\n"
        "a = resolve_algorithm('grpo', {'estimator': 'their_pkg.mine:over_best'})\n"
        "r = torch.tensor([[1.0], [2.0]], dtype=torch.float64)\n"
        "print(a.advantages({'rewards': r, 'group_index': torch.tensor([0, 0])}).values.tolist())\n"
        "try:\n"
        "    spec = {'name': 'their_pkg.mine:over_best', 'pow': 1}\n"
        "    resolve_algorithm('grpo', {'estimator': spec})\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    root = Path(__file__).parents[2]
    env = {"PYTHONPATH": f"{tmp_path}:{root}", "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == [
        "[-0.5, 0.0]",
        "estimator.pow = 1: their_pkg.mine:over_best takes ['power'], did you mean 'power'?",
    ], done.stderr
