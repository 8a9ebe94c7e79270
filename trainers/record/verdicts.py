"""Verdicts of an evaluation, some of them missing: means, maxima, and how sure they are."""

import math
from collections.abc import Iterable

import torch

from rlnorm.statistics import bootstrap_means, normal_quantile

LEVEL = 0.95


def known(values: Iterable[float | None]) -> list[float]:
    """Without those that failed: None in a file, NaN in memory."""
    return [float(v) for v in values if v is not None and not math.isnan(v)]


def mean(values: Iterable[float | None]) -> float:
    """Of the known ones; NaN of none."""
    found = known(values)
    return sum(found) / len(found) if found else math.nan


def best(values: Iterable[float | None]) -> float:
    """Of the known ones; NaN of none."""
    return max(known(values), default=math.nan)


def mean_interval(values: Iterable[float | None]) -> tuple[float, float]:
    """Where the mean over many such problems lies: one value in 0 .. 1 a problem, those known.

    Percentiles of a bootstrap over the problems; Wilson's score interval for verdicts of 0 and 1,
    and where all values are equal, of which a bootstrap would be certain. NaN of none.
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
