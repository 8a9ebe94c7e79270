"""Each named algorithm takes real steps from a config: rollouts, advantages, new weights."""

import asyncio
import io
import json
import math

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from rlnorm.named_algorithms import ALGORITHMS
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.resolve import model_path
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training

SMALL = (
    "steps=2",
    "rollout.prompts_per_step=8",
    "rollout.group_size=4",
    "learner.lr=1e-3",
    "data.train_limit=64",
    "data.eval={}",
)
TURN_LEVEL = ("mapo", "grpo_process")
REGULARIZERS = ("kl", "entropy")


def train(folder, *overrides, preset="quickstart"):
    config = load_config(preset, [*SMALL, f"output_dir={folder}", *overrides])
    display = Display(config.steps, Console(file=io.StringIO()))
    run_dir = asyncio.run(run_training(config, display))
    weights = load_file(run_dir.checkpoints / "step_000002" / "model" / "model.safetensors")
    return read_jsonl(run_dir.metrics), weights


def check(rows, weights):
    initial = load_file(f"{model_path('shipped:quick')}/model.safetensors")
    assert all(math.isfinite(row["loss"]) for row in rows[1:])
    assert any(row["grad_norm"] > 0 for row in rows[1:])
    assert all(row["learner/skipped_steps"] == 0 for row in rows[1:])
    assert all(tensor.isfinite().all() for tensor in weights.values())
    moved = [n for n, w in weights.items() if not torch.equal(w, initial[n].to(w.dtype))]
    assert len(moved) == len(weights)


@pytest.mark.parametrize("name", [n for n in ALGORITHMS if n not in TURN_LEVEL])
def test_single_turn_algorithms(name, tmp_path):
    # recomputed old logprobs exercise the learner's scoring pass too
    # rewards must sum to at most 1 for the estimators that read them as probabilities
    weight = "rewards.correct.weight=0.9"
    check(*train(tmp_path, f"algorithm={name}", "learner.old_logprobs=recompute", weight))


def test_rewards_an_estimator_cannot_take_end_the_run_with_one_clear_line(tmp_path):
    with pytest.raises(RunError, match=r"algorithm: mapo_certainty: rewards sum to 1.1 in row"):
        train(tmp_path, "algorithm=mapo_certainty")


@pytest.mark.parametrize("name", TURN_LEVEL)
def test_turn_level_algorithms_on_the_multi_turn_environment(name, tmp_path):
    rows, weights = train(tmp_path, f"algorithm={name}", preset="multi_turn")
    check(rows, weights)
    # two turns or three, each of at least two tokens
    assert rows[1]["completion/tokens_mean"] > 4


@pytest.mark.parametrize(
    "override",
    [
        "algorithm.regularizers=[{name: kl, coef: 0.1}]",
        "algorithm.regularizers=[{name: entropy, coef: 0.01}]",
        "algorithm.correction=[{name: truncated}]",
    ],
)
def test_slots_are_overridable(override, tmp_path):
    rows, weights = train(tmp_path, override, "learner.old_logprobs=recompute")
    check(rows, weights)


def test_a_kl_term_pulls_back_to_the_reference(tmp_path):
    """The first step is taken at the reference, where the KL is 0; the second is not."""
    rows, _ = train(
        tmp_path, "algorithm.regularizers=[{name: kl, coef: 1.0}]", "learner.minibatches=1"
    )
    assert abs(rows[1]["policy/kl_loss"]) < 1e-4
    assert rows[2]["policy/kl_loss"] > abs(rows[1]["policy/kl_loss"])


def test_a_users_estimator_in_a_file_trains_from_a_config(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "def centred(rewards, group_index, *, weights=(), scale=1.0):\n"
        "    total = rewards @ rewards.new_tensor(weights)\n"
        "    groups = int(group_index.max()) + 1\n"
        "    sums = total.new_zeros(groups).index_add(0, group_index, total)\n"
        "    counts = total.new_zeros(groups).index_add(0, group_index, total * 0 + 1)\n"
        "    return scale * (total - (sums / counts)[group_index])\n"
    )
    override = f"algorithm.estimator={{name: '{plugin}:centred', scale: 2.0}}"
    check(*train(tmp_path / "runs", override))


def test_four_reward_components_reach_gdpo_by_name(tmp_path):
    config = load_config("gdpo_four_rewards", [*SMALL, f"output_dir={tmp_path}"])
    display = Display(config.steps, Console(file=io.StringIO()))
    rows = read_jsonl(asyncio.run(run_training(config, display)).metrics)
    for name in ("correct", "format", "short", "repetition"):
        assert math.isfinite(rows[-1][f"reward/{name}"])
    capsule = json.loads((config.run_dir / "capsule.json").read_text())
    assert capsule["algorithm"]["estimator"]["weights"] == [1.0, 0.2, 0.1, 0.1]
