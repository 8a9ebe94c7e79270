"""Comparisons whose runs are files written by hand."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlnorm.trainers.compare.runs import open_comparison, plan_comparison
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.files import write_atomic

# sampled verdicts of 4 problems by (algorithm, seed); the third problem's verifier failed once
VERDICTS = {
    ("grpo", 1): [[0, 0], [1, 0], [0, 0], [1, 1]],  # .375 sampled, .5 pass@2
    ("grpo", 2): [[0, 0], [1, 0], [0, 0], [1, 1]],
    ("gdpo", 1): [[1, 0], [1, 1], [None, 1], [1, 1]],  # .5 1 1 1: + .5 .5 1 0
    ("gdpo", 2): [[1, 0], [1, 1], [None, 1], [1, 1]],
}


def _config_for(folder: Path, *overrides: str) -> Config:
    return load_config(
        "graded",
        [f"output_dir={folder}", "run_name=c", "steps=4", "eval_samples=2", *overrides],
    )


def _write_run(run, sampled, *, first_token=7, entropy=1.0):
    rows = [
        {"id": f"p{i}", "greedy": max(v or 0 for v in values), "sampled": values}
        for i, values in enumerate(sampled)
    ]
    initial = [{"id": r["id"], "greedy": 0, "sampled": [0, 0]} for r in rows]
    for step, verdicts in ((0, initial), (run.config.steps, rows)):
        folder = run.path / "eval" / f"step_{step:06d}"
        folder.mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in verdicts)
        write_atomic(folder / "chain.jsonl", lines)
    metrics = [{"step": s, "policy/entropy": entropy + s, "tokens": 10.0} for s in range(5)]
    write_atomic(run.path / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in metrics))
    (run.path / "rollouts").mkdir()
    columns = {
        "prompt_id": ["a", "b"],
        "rollout_id": ["1/a/0", "1/b/0"],
        "role": ["train", "train"],
        "token_ids": [[first_token], [8, 9]],
    }
    pq.write_table(pa.table(columns), run.path / "rollouts" / "step_000001.parquet")


@pytest.fixture
def written(tmp_path):
    comparison = plan_comparison(_config_for(tmp_path), ["grpo", "gdpo"], 2, "grpo")
    with open_comparison(comparison):
        pass
    runs = comparison.runs()
    for run in runs:
        _write_run(run, VERDICTS[run.algorithm, run.seed], entropy=float(run.seed))
    return comparison, runs


@pytest.fixture
def config_for():
    return _config_for


@pytest.fixture
def write_run():
    return _write_run


@pytest.fixture
def verdicts():
    return VERDICTS
