"""The embedded run as a user has it: it resumes to the same bits and says what is wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from rlnorm.trainers.files import read_jsonl

SMALL = (
    "eval_samples=2",
    "data.train_limit=512",
    "rollout.prompts_per_step=16",
    "rollout.group_size=4",
    "deterministic=true",
    "checkpoint_every=2",
)
REQUIRED = [
    "step",
    "reward/mean",
    "reward/correct",
    "reward/format",
    "loss",
    "grad_norm",
    "policy/entropy",
    "policy/clip_frac",
    "policy/kl_sampler",
    "completion/tokens_mean",
    "completion/truncated_frac",
    "group/zero_signal_frac",
    "staleness/max",
    "time/step_s",
    "time/rollout_s",
    "time/reward_s",
    "time/learn_s",
    "time/sync_s",
    "throughput/tokens_per_s",
]


def rlnorm(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rlnorm.launch.cli", *arguments]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=300, check=False, **options
    )


def train(folder: Path, name: str, *overrides: str, flags: tuple[str, ...] = ()):
    return rlnorm(
        "train",
        "quickstart",
        *SMALL,
        f"output_dir={folder}",
        f"run_name={name}",
        *overrides,
        *flags,
    )


def final_weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    checkpoints = folder / name / "checkpoints"
    newest = (checkpoints / "latest").read_text().strip()
    return load_file(checkpoints / newest / "model" / "model.safetensors")


def comparable(folder: Path, name: str) -> list[dict[str, float]]:
    """Metrics less the clock."""
    rows = read_jsonl(folder / name / "metrics.jsonl")
    timed = ("time/", "throughput/", "seconds_p")
    return [{k: v for k, v in row.items() if not any(t in k for t in timed)} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    result = train(folder, "whole", "steps=5")
    assert result.returncode == 0, result.stderr
    return folder


def test_the_run_directory_keeps_its_contract(undisturbed):
    run = undisturbed / "whole"
    for name in ("config.yaml", "capsule.json", "metrics.jsonl", "report.html"):
        assert (run / name).is_file(), name
    capsule = json.loads((run / "capsule.json").read_text())
    assert capsule["versions"]["torch"].startswith(torch.__version__[:4])
    assert len(capsule["sha256"]["model"]) == 64
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "latest",
        "step_000004",
        "step_000005",
    ]
    assert (run / "checkpoints" / "latest").read_text() == "step_000005\n"
    evaluated = sorted(p.name for p in (run / "eval").iterdir())
    assert evaluated == ["step_000000", "step_000004", "step_000005"]
    rows = read_jsonl(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [name for name in REQUIRED if name not in rows[-1]] == []
    for name in ("greedy", "avg@k", "pass@k"):
        assert 0 <= rows[0][f"eval/chain/{name}"] <= 1
        assert f"eval/chain/{name}" in rows[-1]
    parts = ("time/rollout_s", "time/reward_s", "time/learn_s", "time/sync_s")
    assert sum(rows[-1][p] for p in parts) <= rows[-1]["time/step_s"]


def test_rollouts_are_joinable_and_enough_for_replay(undisturbed):
    table = pq.read_table(undisturbed / "whole" / "rollouts" / "step_000003.parquet")
    rows = table.to_pylist()
    assert len(rows) == 16 * 4
    assert len({row["rollout_id"] for row in rows}) == 64
    for row in rows:
        lengths = {len(row[n]) for n in ("token_ids", "sampler_logprobs", "policy_mask")}
        assert len(lengths) == 1
        assert row["status/correct"] in ("correct", "wrong", "no_answer", "unparsable")
        assert row["policy_version"] == 2 * 2  # two optimizer steps in each of two RL steps
    by_group: dict[int, list[float]] = {}
    for row in rows:
        by_group.setdefault(row["group_index"], []).append(row["advantage"])
    assert all(abs(sum(a)) < 1e-9 for a in by_group.values())


def test_sampler_and_learner_agree_on_logprobs(undisturbed):
    rows = read_jsonl(undisturbed / "whole" / "metrics.jsonl")
    assert all(row["policy/logprob_gap_mean"] < 1e-5 for row in rows[1:])
    assert all(row["sync/parity_gap"] < 1e-5 for row in rows[1:])


def test_they_agree_at_another_temperature_with_a_cut_distribution(tmp_path):
    overrides = ("steps=1", "rollout.temperature=0.6", "rollout.top_p=0.8", "rollout.min_p=0.01")
    result = train(tmp_path, "cold", *overrides, "learner.old_logprobs=recompute")
    assert result.returncode == 0, result.stderr
    [_, row] = read_jsonl(tmp_path / "cold" / "metrics.jsonl")
    assert row["policy/logprob_gap_mean"] < 1e-5
    assert row["sync/parity_gap"] < 1e-5


def test_the_samples_of_an_evaluation_differ(undisturbed):
    rows = read_jsonl(undisturbed / "whole" / "eval" / "step_000000" / "chain.jsonl")
    assert {len(row["sampled"]) for row in rows} == {2}
    assert sum(row["sampled"][0] != row["sampled"][1] for row in rows) > 20


def test_a_killed_run_resumes_to_the_same_bits(undisturbed, tmp_path):
    command = [sys.executable, "-m", "rlnorm.launch.cli", "train", "quickstart", *SMALL]
    command += [f"output_dir={tmp_path}", "run_name=killed", "steps=5"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    # after step 3 is logged and before step 4 is saved: one step of work is lost for certain
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 4):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no third step within 120 s"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    again = train(tmp_path, "killed", "steps=5", flags=("--resume",))
    assert again.returncode == 0, again.stderr
    one, two = final_weights(undisturbed, "whole"), final_weights(tmp_path, "killed")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert comparable(undisturbed, "whole") == comparable(tmp_path, "killed")


def test_an_existing_run_is_refused_and_left_alone(undisturbed):
    before = (undisturbed / "whole" / "metrics.jsonl").read_bytes()
    result = train(undisturbed, "whole", "steps=5")
    assert result.returncode == 2
    assert "exists: add --resume" in result.stderr
    assert "Traceback" not in result.stderr
    assert (undisturbed / "whole" / "metrics.jsonl").read_bytes() == before


def test_resuming_with_another_config_is_refused(undisturbed):
    result = train(undisturbed, "whole", "steps=5", "learner.lr=1", flags=("--resume",))
    assert result.returncode == 2
    assert "--resume: learner.lr = 1.0, but the run was started with 0.0002" in result.stderr


def test_the_microbatch_budget_changes_nothing_but_memory(undisturbed, tmp_path):
    small = train(tmp_path, "small", "steps=1", "learner.tokens_per_microbatch=500")
    assert small.returncode == 0, small.stderr
    one = comparable(undisturbed, "whole")[1]
    two = comparable(tmp_path, "small")[1]
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-6)
    assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)
    assert two["reward/mean"] == one["reward/mean"]


BAD = [
    (("model.path=/nowhere/model",), "model.path = '/nowhere/model': no such folder"),
    (("algorithm=gropo",), "algorithm"),
    (("algorithm.estimator.epss=1",), "epss"),
    (("data.train=missing.jsonl",), "missing.jsonl"),
    (("data.train=task:chian",), "data.train = 'task:chian': choose a task from"),
    (("rollout.max_tokens=100000",), "rollout.max_tokens = 100000: the model's context is"),
    (("rewards.correct.function=nope",), "nope"),
    (("learner.lr=0",), "learner.lr = 0"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=lambda x: str(x[0])[:30])
def test_bad_input_is_one_line_with_status_2_and_leaves_nothing(tmp_path, overrides, message):
    result = train(tmp_path, "bad", "steps=1", *overrides)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "bad" / "metrics.jsonl").exists()
    # the same command, mended, must not be told that the run exists
    assert not (tmp_path / "bad").exists()
