"""What a run has gained on its benchmarks, paired by problem, with intervals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlnorm.statistics import paired_comparison
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.verdicts import LEVEL, accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """One measure of one benchmark at a run's first and last evaluation."""

    benchmark: str
    measure: str
    """greedy, avg@k or pass@k, k as a number."""
    before: float
    after: float
    interval: tuple[float, float]
    """Of after - before: percentiles of a bootstrap over the problems, paired by problem.
    It covers other problems with these weights, not training again with another seed."""
    problems: int
    """Problems with a verdict in both evaluations."""

    def __str__(self) -> str:
        points, low, high = (100 * x for x in (self.after - self.before, *self.interval))
        return (
            f"{self.before:.1%} -> {self.after:.1%}"
            f"  ({points:+.1f} points, 95% interval {low:+.1f} to {high:+.1f})"
        )


def benchmark_gains(folder: Path) -> list[Gain]:
    """Gains of the run in `folder`; empty before its second evaluation."""
    steps = sorted((folder / "eval").glob("step_*"))
    if len(steps) < 2:
        return []
    gains = []
    for first in sorted(steps[0].glob("*.jsonl")):
        last = steps[-1] / first.name
        if last.is_file():
            gains += _gains(first.stem, read_jsonl(first), read_jsonl(last))
    return gains


def _gains(benchmark: str, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[Gain]:
    k = len(before[0]["sampled"])
    measures = {"greedy": "greedy", f"avg@{k}": "sampled", f"pass@{k}": "pass@k"}
    ended = {row["id"]: row for row in after}
    pairs = [(row, ended[row["id"]]) for row in before if row["id"] in ended]
    out = []
    for name, measure in measures.items():
        accuracies = [[accuracy(row, measure) for row in pair] for pair in pairs]
        values = torch.tensor(accuracies, dtype=torch.float64)
        known = values[~values.isnan().any(1)]
        if len(known):
            first, last = known.T
            compared = paired_comparison(last[None], first[None], level=LEVEL)
            gain = Gain(
                benchmark=benchmark,
                measure=name,
                before=float(first.mean()),
                after=float(last.mean()),
                interval=compared.interval,
                problems=compared.problems,
            )
            out.append(gain)
    return out
