"""Statistics of an evaluation's verdicts, some of which may be missing."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from rlnorm.statistics import bootstrap_means, normal_quantile

LEVEL = 0.95


def known(values: Iterable[float | None]) -> list[float]:
    """The values without those that failed: None in a file, NaN in memory."""
    return [float(v) for v in values if v is not None and not math.isnan(v)]


def mean(values: Iterable[float | None]) -> float:
    """Mean of the known values; NaN if there are none."""
    found = known(values)
    return sum(found) / len(found) if found else math.nan


def best(values: Iterable[float | None]) -> float:
    """Largest of the known values; NaN if there are none."""
    return max(known(values), default=math.nan)


def accuracy(row: Mapping[str, Any], measure: str) -> float:
    """measure: greedy, sampled (avg@k) or pass@k. row: one line of `eval/step_*/*.jsonl`."""
    if measure == "greedy":
        return mean([row["greedy"]])
    return best(row["sampled"]) if measure == "pass@k" else mean(row["sampled"])


def mean_interval(values: Iterable[float | None]) -> tuple[float, float]:
    """Confidence interval of the mean over problems. values: per problem, in 0 .. 1.

    Percentiles of a bootstrap over the problems. Wilson's score interval if all values are 0 or 1,
    or all are equal, in which case the bootstrap interval would be empty. NaN without known values.
    """
    found = known(values)
    if not found:
        return math.nan, math.nan
    if len(set(found)) == 1 or set(found) == {0.0, 1.0}:
        return wilson(sum(found) / len(found), len(found))
    means = bootstrap_means(torch.tensor([found], dtype=torch.float64))
    low, high = torch.quantile(means, means.new_tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2])).tolist()
    return low, high


def wilson(share: float, count: int) -> tuple[float, float]:
    """Score interval of a proportion: Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212."""
    z = normal_quantile((1 + LEVEL) / 2)
    centre, shrink = share + z * z / (2 * count), 1 + z * z / count
    reach = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, (centre - reach) / shrink), min(1.0, (centre + reach) / shrink)
