"""Every example runs as its README says, with fewer steps, and does what it is there to show."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def rlnorm(tmp_path):
    """Run the command in a copy of an example's folder; like the installed one, it adds no path."""

    def run(folder, *arguments):
        shutil.copytree(EXAMPLES / folder, tmp_path / folder)
        # a file of the user's named like a package of ours is not taken for it
        (tmp_path / folder / "trainers.py").write_text("raise RuntimeError('shadowed')")
        done = subprocess.run(
            [sys.executable, "-P", "-m", "rlnorm.launch.cli", *arguments],
            cwd=tmp_path / folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return tmp_path / folder

    return run


def test_every_example_is_in_the_readme():
    names = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}
    readme = (EXAMPLES / "README.md").read_text()
    assert names
    assert [name for name in names if f"]({name})" not in readme] == []


def test_a_reward_beside_the_config_trains_on_data_of_its_own(rlnorm):
    folder = rlnorm("own_reward", "train", "train.yaml", "steps=2", "eval_samples=2")
    metrics = (folder / "runs/own_reward/metrics.jsonl").read_text()
    rows = [json.loads(line) for line in metrics.splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert {"eval/sums/greedy", "eval/sums/avg@2"} <= rows[-1].keys()
    # most rollouts blurt the answer, which is no equation; those that work it out mostly hold
    assert 0 < rows[1]["reward/working"] < 1


@pytest.mark.parametrize(
    ("completion", "share"),
    [
        ("42-4=38\n38-9=29\n\\boxed{29}", 1.0),
        ("42-4=38\n38-9=30\n\\boxed{30}", 0.5),
        ("\\boxed{29}", 0.0),
        ("2*3=6 4+4=9", 0.0),  # no line of its own
    ],
)
def test_the_reward_is_the_share_of_true_lines(monkeypatch, completion, share):
    monkeypatch.syspath_prepend(EXAMPLES / "own_reward")
    from worked import true_lines

    assert true_lines(completion) == share


def test_an_estimator_beside_the_command_trains(rlnorm):
    arguments = [
        *("train", "graded", "run_name=median", "steps=1", "eval_samples=1"),
        "algorithm.estimator={name: 'median.py:above_median'}",
        *("rollout.prompts_per_step=8", "data.train_limit=64"),
    ]
    folder = rlnorm("own_estimator", *arguments)
    assert "above_median" in (folder / "runs/median/config.yaml").read_text()


# a cell is compiled and run as the notebook's kernel does it: in __main__, on a running event loop
KERNEL = """
import ast, asyncio, inspect, json, sys

async def run(cells):
    for cell in cells:
        source, flags = "".join(cell["source"]), ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        made = eval(compile(source, cell["id"], "exec", flags=flags), vars(sys.modules["__main__"]))
        if inspect.iscoroutine(made):
            await made

asyncio.run(run(c for c in json.load(open(sys.argv[1]))["cells"] if c["cell_type"] == "code"))
"""


def test_the_notebook_runs_cell_by_cell_in_a_running_event_loop(tmp_path):
    notebook = json.loads((EXAMPLES / "from_python.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * 2
    page = (EXAMPLES.parent / "docs/from_python.md").read_text()
    blocks = re.findall(r"```python\n(.*?)\n```", page, flags=re.DOTALL)
    blocks[1] = blocks[1].removeprefix("import asyncio\n\n")
    blocks[1] = re.sub(r"asyncio\.run\((.*)\)$", r"await \1", blocks[1])
    assert ["".join(cell["source"]) for cell in code] == blocks
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, EXAMPLES / "from_python.ipynb"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "'boxed_exact'" in done.stdout.splitlines()[-1]
    assert (tmp_path / "runs/from_python/report.html").is_file()


def test_advantages_are_the_ones_worked_out_by_hand():
    command = [sys.executable, EXAMPLES / "advantages.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = {name: [float(value) for value in values] for name, *values in lines}
    # totals 2, 1, 1, 0: mean 1, sample deviation (2/3)^.5; and 3, 2, 2, 2: minus the others' mean
    assert rows["grpo"][:4] == [1.22, 0, 0, -1.22]
    assert rows["dr_grpo"][:4] == [1, 0, 0, -1]
    # 1, 0, 0, 0: mean 1/4, sample deviation 1/2
    assert rows["correct"] == [1.5, -0.5, -0.5, -0.5]
    assert rows["rloo"][4:] == [1.0, -0.33, -0.33, -0.33]
