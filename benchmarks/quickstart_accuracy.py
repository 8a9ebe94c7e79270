"""What the embedded run learns, and how fast, over seeds: python benchmarks/quickstart_accuracy.py

Trains the quickstart with five seeds and the graded model with one, as a user would, and prints
sampled accuracy (avg@8), greedy and pass@8 together, on prompts never trained on, with the seconds
of training alone. Writes benchmarks/results/quickstart_accuracy.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import RESULTS, conditions, keep

KEYS = ("avg@k", "greedy", "pass@k")


def train(preset: str, seed: int, folder: str, *overrides: str) -> dict[str, Any]:
    """One run; its first and last evaluation and the seconds its steps took."""
    name = f"{preset}_{seed}"
    command = [sys.executable, "-m", "rlnorm.launch.cli", "train", preset, f"seed={seed}"]
    command += [f"output_dir={folder}", f"run_name={name}", "logging.sample_rollouts=0", *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=1200)
    lines = (Path(folder) / name / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    evaluated = [row for row in rows if "eval/chain/greedy" in row]
    return {
        "preset": preset,
        "seed": seed,
        "steps": rows[-1]["step"],
        "train_s": sum(row.get("time/step_s", 0.0) for row in rows),
        "before": {key: evaluated[0][f"eval/chain/{key}"] for key in KEYS},
        "after": {key: evaluated[-1][f"eval/chain/{key}"] for key in KEYS},
    }


def main() -> None:
    """Train, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        jobs = [("quickstart", seed, ("eval_every=0",)) for seed in range(1, args.seeds + 1)]
        jobs.append(("graded", 1, ("eval_every=0",)))
        for preset, seed, overrides in jobs:
            run = train(preset, seed, folder, *overrides)
            runs.append(run)
            shown = [f"{run['before'][k]:.3f} -> {run['after'][k]:.3f}" for k in KEYS]
            print(
                f"{preset:10} seed {seed}: {run['steps']} steps in {run['train_s']:5.1f} s;", end=""
            )
            print(f" sampled {shown[0]}, greedy {shown[1]}, pass@8 {shown[2]}")
    keep(conditions("torch") | {"runs": runs}, RESULTS / "quickstart_accuracy.json")


if __name__ == "__main__":
    main()
