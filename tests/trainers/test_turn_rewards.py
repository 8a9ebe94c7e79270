"""Rewards that score turns train mapo where the environment itself rewards none."""

import asyncio
import math

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from rlnorm.advantages.mapo import mapo
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training

MODULE = """
import math
from dataclasses import replace
from rlnorm.rewards.environments.chain import ChainEnv
from rlnorm.rewards.environments.types import EnvError
from rlnorm.rewards.types import Score, Status

class Silent(ChainEnv):
    async def step(self, text):
        step = await super().step(text)
        return replace(step, reward=math.nan, info={**step.info, "right": float(step.reward > 0)})

class Breaks(ChainEnv):  # every other rollout fails in its second turn, where the others are done
    made = 0
    async def reset(self, seed):
        self.turn, Breaks.made = 0, Breaks.made + 1
        self.fails = Breaks.made % 2 == 0
        return await super().reset(seed)
    async def step(self, text):
        self.turn += 1
        if self.turn == 2:
            raise EnvError("server down")
        step = await super().step(text)
        return step if self.fails else replace(step, messages=(), done=True)

async def by_turn(turns) -> Score:
    right = [turn["info"]["right"] for turn in turns]
    value = sum(right) / len(right)
    status = Status.CORRECT if value else Status.WRONG
    return Score(components={"judge": value}, status=status, per_turn=right)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that workers and configs can import."""
    name = f"silent_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def train(folder, *overrides):
    config = load_config(
        "multi_turn",
        [
            "data.train_limit=32",
            "data.eval={}",
            "rollout.prompts_per_step=8",
            "rollout.group_size=4",
            "steps=1",
            f"output_dir={folder}",
            "run_name=run",
            *overrides,
        ],
    )
    asyncio.run(run_training(config, Display(1, Console(quiet=True))))
    run = folder / "run"
    [path] = (run / "rollouts").glob("*.parquet")
    return pq.read_table(path).to_pylist(), read_jsonl(run / "metrics.jsonl")[-1]


def test_mapo_gets_the_rewards_per_turn_scores(module, tmp_path):
    rows, metrics = train(
        tmp_path,
        f"rollout.environment={{name: '{module}:Silent'}}",
        f"rewards=[{{name: judge, function: '{module}:by_turn', weight: 2.0}}]",
    )
    turns = max(len(row["turn_rewards"]) for row in rows)
    assert turns > 1
    table = torch.tensor(
        [[*r["turn_rewards"], *[math.nan] * (turns - len(r["turn_rewards"]))] for r in rows],
        dtype=torch.float64,
    )
    told = table[~table.isnan()]
    assert set(told.tolist()) == {0.0, 2.0}  # right or wrong, times the weight
    for row, known in zip(rows, table, strict=True):
        assert known.nanmean().item() == pytest.approx(2.0 * row["reward/judge"])
    wanted = mapo(table, torch.tensor([row["group_index"] for row in rows])).values.nanmean(1)
    got = torch.tensor([row["advantage"] for row in rows], dtype=torch.float64)
    assert torch.allclose(got, wanted, atol=1e-6)
    assert got.abs().max() > 0
    assert metrics["grad_norm"] > 0


def test_a_rollout_that_failed_in_a_turn_no_other_reached_does_not_end_the_run(module, tmp_path):
    rows, metrics = train(tmp_path, f"rollout.environment={{name: '{module}:Breaks'}}")
    assert {row["status/solved"] for row in rows} >= {"infra_error"}
    assert metrics["step"] == 1
