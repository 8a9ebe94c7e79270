"""Start-up times and memory over many steps: python benchmarks/startup_and_memory.py

Prints `rlnorm --help`, a refused config, the start of an embedded run up to its first rollouts, and
the resident memory of a run of 500 small steps; writes benchmarks/results/startup_and_memory.json.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from record import RESULTS, conditions, keep

CLI = [sys.executable, "-m", "rlnorm.launch.cli"]
SMALL = ["rollout.prompts_per_step=8", "rollout.group_size=4", "data.eval={}"]


def seconds_of(command: list[str], rounds: int = 5) -> float:
    """Least wall time of a command."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, timeout=120)
        times.append(time.perf_counter() - start)
    return min(times)


def first_step_s(folder: str) -> float:
    """Seconds from the command to the first step's row of metrics."""
    start = time.perf_counter()
    command = [*CLI, "train", "quickstart", *SMALL, "steps=1", f"output_dir={folder}"]
    process = subprocess.Popen([*command, "run_name=first"], stdout=subprocess.DEVNULL)
    metrics = Path(folder) / "first" / "metrics.jsonl"
    while not (metrics.exists() and len(metrics.read_text().splitlines()) == 2):
        if process.poll() not in (None, 0):
            raise RuntimeError("the run failed")
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    process.wait(timeout=60)
    return seconds


def memory_over(steps: int, folder: str) -> list[tuple[int, float]]:
    """(step, resident MB) about every 50 steps of a run of the given length."""
    command = [*CLI, "train", "quickstart", *SMALL, f"steps={steps}", f"output_dir={folder}"]
    process = subprocess.Popen([*command, "run_name=long"], stdout=subprocess.DEVNULL)
    metrics, seen, out = Path(folder) / "long" / "metrics.jsonl", -1, []
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        done = len(metrics.read_text().splitlines()) - 1 if metrics.exists() else -1
        if done >= seen + 50 or (seen < 0 <= done):
            out.append((done, watched.memory_info().rss / 1e6))
            seen = done
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"the run failed with {process.returncode}")
    return out


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "help_s": seconds_of([*CLI, "--help"]),
            "refused_config_s": seconds_of([*CLI, "train", "quickstart", "stepz=1"]),
            "refused_algorithm_s": seconds_of([*CLI, "train", "quickstart", "algorithm=nope"]),
            "first_step_s": first_step_s(folder),
            "memory_mb": memory_over(args.steps, folder),
        }
    for name, value in result.items():
        print(f"{name}: {value}")
    keep(conditions("torch") | result, RESULTS / "startup_and_memory.json")


if __name__ == "__main__":
    main()
