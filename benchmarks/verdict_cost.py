"""What one verdict costs in two installations, say before and after a change.

    python benchmarks/verdict_cost.py BEFORE_PYTHON AFTER_PYTHON --gsm8k T.jsonl --gsm-hard T.jsonl

The rows are the golds of GSM8K's test set and the first 681 of GSM-Hard, 2,000 in all, each
answered with `\\boxed{gold}`. Two measures: instructions per verdict by callgrind (five passes over
the rows less one, so that start-up drops out), and CPU time, as the median of 20 alternating rounds
of ten passes each. Writes benchmarks/results/verdict_cost.json.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.record import RESULTS, conditions, keep

_HARD_ROWS = 681
_ROUNDS = 20
_PROGRAM = """
import json, sys, time
try:
    from rlnorm.rewards.math.verify import verify
except ImportError:  # its name before the packages moved below rlnorm
    from rewards.math.verify import verify
rows = json.load(open(sys.argv[1]))
slowest = 0.0
for gold, response in rows:  # fills the caches
    start = time.perf_counter()
    verify(gold, response)
    slowest = max(slowest, time.perf_counter() - start)
start = time.process_time()
for _ in range(int(sys.argv[2])):
    for gold, response in rows:
        verify(gold, response)
print(time.process_time() - start, slowest)
"""


def golds(path: Path) -> list[str]:
    """The answers of a file of rows, as text."""
    return [str(json.loads(line)["answer"]) for line in path.read_text().splitlines()]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    return subprocess.run(
        command, cwd="/", env=environment, check=True, capture_output=True, text=True
    )


def instructions(python: str, rows: Path, count: int) -> float:
    """Instructions per verdict, by callgrind."""
    collected = []
    for passes in (1, 5):
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        done = _run([*valgrind, python, "-c", _PROGRAM, str(rows), str(passes)])
        found = re.search(r"Collected : (\d+)", done.stderr)
        if found is None:
            raise SystemExit(f"callgrind printed no count: {done.stderr[-300:]}")
        collected.append(int(found[1]))
    return (collected[1] - collected[0]) / (4 * count)


def seconds(python: str, rows: Path, count: int) -> tuple[float, float]:
    """CPU seconds per verdict over ten passes, and the wall time of the slowest verdict."""
    spent, slowest = _run([python, "-c", _PROGRAM, str(rows), "10"]).stdout.split()
    return float(spent) / (10 * count), float(slowest)


def measure(pythons: dict[str, str], rows: Path, count: int) -> dict[str, Any]:
    """Both measures for both installations, and the ratios after / before."""
    rounds = [
        {name: seconds(python, rows, count) for name, python in pythons.items()}
        for _ in range(_ROUNDS)
    ]
    out: dict[str, Any] = {
        "instructions": {name: instructions(p, rows, count) for name, p in pythons.items()},
        "cpu_us": {name: 1e6 * statistics.median(r[name][0] for r in rounds) for name in pythons},
        "slowest_ms": {name: 1e3 * max(r[name][1] for r in rounds) for name in pythons},
    }
    for measured in ("instructions", "cpu_us"):
        out[f"{measured}_ratio"] = out[measured]["after"] / out[measured]["before"]
    return out


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("before", help="the python of the earlier installation")
    parser.add_argument("after", help="the python of the later one")
    parser.add_argument("--gsm8k", type=Path, required=True, help="its test rows")
    parser.add_argument("--gsm-hard", type=Path, required=True, help="its rows")
    parser.add_argument("--out", type=Path, default=RESULTS / "verdict_cost.json")
    arguments = parser.parse_args()
    answers = golds(arguments.gsm8k) + golds(arguments.gsm_hard)[:_HARD_ROWS]
    with TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        rows.write_text(json.dumps([[gold, f"\\boxed{{{gold}}}"] for gold in answers]))
        pythons = {"before": arguments.before, "after": arguments.after}
        found = measure(pythons, rows, len(answers))
    print(json.dumps(found, indent=1))
    keep({**conditions(), "rows": len(answers), **found}, arguments.out)


if __name__ == "__main__":
    main()
