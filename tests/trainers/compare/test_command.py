"""The command: what it refuses, its reports, and that it can be interrupted and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlnorm.trainers.compare.command import run_comparison
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.errors import RunError

SMALL = (
    "steps=12",
    "eval_samples=2",
    "data.train_limit=256",
    "rollout.prompts_per_step=8",
    "rollout.group_size=4",
    "deterministic=true",
    "checkpoint_every=4",
)


def cli(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rlnorm.launch.cli", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background has them ignore SIGINT, children too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_an_unknown_algorithm_starts_nothing(tmp_path):
    request = ("quickstart", *SMALL, f"output_dir={tmp_path}", "--algorithms", "grpo,gropo")
    process = cli("compare", *request)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "'gropo': choose from" in errors
    assert len(errors.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


COMPARED = ("--algorithms", "grpo,rloo", "--seeds", "1")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A comparison by the command, interrupted in its first run and then gone on with."""
    folder = tmp_path_factory.mktemp("compare")
    request = ("compare", "quickstart", *SMALL, f"output_dir={folder}", "run_name=c", *COMPARED)
    process = cli(*request)
    metrics = folder / "c" / "grpo" / "seed_1" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no first step within 120 s"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "runs are done and kept; to continue, run the same command again" in errors
    assert "step_000012" not in (metrics.parent / "checkpoints" / "latest").read_text()
    process = cli(*request)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return folder, request, output


@pytest.mark.slow
def test_the_command_ends_with_table_page_and_summaries(real):
    folder, _, output = real
    assert "verdict" in output
    assert "start alike" in output  # the pairing was checked on real rollouts
    assert (folder / "c" / "comparison.html").stat().st_size > 1_000_000
    summary = json.loads((folder / "c" / "summary.json").read_text())
    assert set(summary["pairing"].values()) == {1.0}
    entry = summary["benchmarks"]["chain"]["algorithms"]["rloo"]
    for index, seed in enumerate(summary["seeds"]):
        path = folder / "c" / "rloo" / f"seed_{seed}" / "metrics.jsonl"
        last = json.loads(path.read_text().splitlines()[-1])
        assert entry["sampled"]["by_seed"][index] == pytest.approx(last["eval/chain/avg@k"])
        assert entry["pass@k"]["by_seed"][index] == pytest.approx(last["eval/chain/pass@k"])


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_ordinary_run_of_its_seed(real, tmp_path):
    folder, _, _ = real
    process = cli("train", "quickstart", *SMALL, "seed=1", f"output_dir={tmp_path}", "run_name=r")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    last = Path("eval") / "step_000012" / "chain.jsonl"
    compared = folder / "c" / "grpo" / "seed_1" / last
    assert compared.read_bytes() == (tmp_path / "r" / last).read_bytes()
    other = folder / "c" / "rloo" / "seed_1" / last
    assert other.read_bytes() != compared.read_bytes()


@pytest.mark.slow
def test_finished_runs_are_not_run_again(real):
    folder, request, _ = real
    kept = {p: p.stat().st_mtime_ns for p in folder.rglob("seed_*/**/*") if p.is_file()}
    process = cli(*request)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "run 1/2" not in output
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_without_the_baseline_nothing_is_compared(tmp_path):
    config = load_config("quickstart", [*SMALL, f"output_dir={tmp_path}"])
    train = [sys.executable, "-c", "import sys; sys.exit('rlnorm: broken')"]
    with pytest.raises(RunError, match="nothing to compare with grpo: grpo: broken"):
        run_comparison(config, ["grpo", "gdpo"], seeds=1, baseline="grpo", out=None, train=train)
