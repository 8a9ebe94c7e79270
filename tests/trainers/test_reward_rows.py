"""Rows of two kinds in one file, each with a reward of its own, through a run."""

import asyncio
import json
import math

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rlnorm.errors import InputError
from rlnorm.trainers.config.check import precheck
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training

BROKEN = "a } b"
"""No gold for mathematics, but for a reward that compares text."""


@pytest.fixture
def data(tmp_path):
    rows = [
        {"id": f"m{i}", "question": f"{i}+1 ?", "answer": str(i + 1), "source": "math"}
        for i in range(4)
    ]
    rows += [
        {"id": f"c{i}", "question": f"{i}+2 ?", "answer": BROKEN, "source": "code"}
        for i in range(4)
    ]
    path = tmp_path / "both.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_of(tmp_path, data, *overrides):
    rewards = (
        "rewards=[{name: correct, function: math, rows: {source: math}}, "
        "{name: short, function: overlong, rows: {source: [code]}, weight: 0.5, "
        "options: {max_tokens: 12, cache_tokens: 8}}]"
    )
    own = [f"data.train=math500={data}", "data.fields={question: question, source: source}"]
    own += ["data.eval={}", "steps=1", f"output_dir={tmp_path}", rewards]
    sizes = ["rollout.prompts_per_step=8", "rollout.group_size=4", "rollout.max_tokens=12"]
    return load_config("quickstart", [*own, *sizes, *overrides])


def train(config):
    return asyncio.run(run_training(config, Display(config.steps, Console(quiet=True))))


def test_each_row_is_graded_by_its_own_reward_and_no_gold_is_bad(tmp_path, data):
    run_dir = train(config_of(tmp_path, data))
    [table] = [pq.read_table(file).to_pylist() for file in run_dir.path.glob("rollouts/*.parquet")]
    assert len(table) == 32
    for row in table:
        is_math = row["prompt_id"].startswith("m")
        other = "short" if is_math else "correct"
        assert row[f"status/{other}"] == "not_applicable"
        assert math.isnan(row[f"reward/{other}"])
        assert row["keep"]
    *_, metrics = read_jsonl(run_dir.metrics)
    assert metrics["reward/correct/gold_error_frac"] == 0.0
    assert metrics["reward/correct/not_applicable_frac"] == 0.5
    assert metrics["group/not_applicable"] == 0.0
    math_rows = [row["reward/correct"] for row in table if row["prompt_id"].startswith("m")]
    code_rows = [row["reward/short"] for row in table if row["prompt_id"].startswith("c")]
    assert metrics["reward/correct"] == pytest.approx(sum(math_rows) / 16)
    mean = (sum(math_rows) + 0.5 * sum(code_rows)) / 32
    assert metrics["reward/mean"] == pytest.approx(mean)


def test_a_row_without_a_reward_is_refused_by_name(tmp_path, data):
    config = config_of(tmp_path, data, "rewards.short.rows={source: math}")
    with pytest.raises(InputError, match=r"data\.train: no reward applies to 4 of 8 rows.* c0, c1"):
        train(config)


def test_golds_are_audited_where_the_math_reward_applies(tmp_path, data):
    precheck(config_of(tmp_path, data, "data.on_bad_row=error"))
    everywhere = config_of(tmp_path, data, "data.on_bad_row=error", "rewards.correct.rows={}")
    with pytest.raises(InputError, match=r"4 of 8 golds cannot be read by the rewards: c0"):
        precheck(everywhere)
