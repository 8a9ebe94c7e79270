"""Is one algorithm better than another? Paired inference over training seeds and problems.

A table [s p] holds the accuracy of one algorithm in the run of seed s on problem p, NaN where a
verdict is missing. Two algorithms are compared cell by cell, so that the effect of a seed or a
problem on both cancels. Uncertainty is estimated in two ways, and a verdict needs both to agree:

* a two-level bootstrap that resamples seeds and problems, each once for the complete table, since
  every run meets the same problems (crossed, not nested). Owen, "The pigeonhole bootstrap", Ann.
  Appl. Stat. 1 (2007) 386-411. No bootstrap of crossed data is exact (McCullagh, Bernoulli 6
  (2000) 285-301): this one is too wide where cells are noise, and too narrow where few seeds
  carry the variance, since n seeds show only (n - 1) / n of it;
* Student's t over the seeds' mean differences, which allows for the few seeds but takes the
  problems as fixed.

The interval is the percentile interval: BCa needs an acceleration from leaving out one seed at a
time, and three such values are too few. Several algorithms: Holm, Scand. J. Stat. 6 (1979) 65-70.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK_CELLS = 1 << 22
"""Resampled problem indices held at a time."""

Verdict = Literal["better", "worse", "not distinguishable"]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedComparison:
    """One algorithm minus the baseline, not corrected for multiple comparisons."""

    difference: float
    """Mean over seeds of the mean over problems; positive where the algorithm is ahead."""
    seed_differences: tuple[float, ...]
    interval: tuple[float, float]
    """Two-level bootstrap, percentiles."""
    seed_interval: tuple[float, float] | None
    """Student's t over seeds; None with one seed."""
    bootstrap_error: float
    """Standard deviation of the bootstrap means."""
    seed_error: float
    """Standard error over seeds; infinite with one."""
    p_value: float
    """Two-sided, the larger of the bootstrap's and the t test's; 1 with one seed."""
    seeds: int
    problems: int
    """Problems with a verdict of both algorithms in at least one seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The verdict on an algorithm, given the others it was compared with."""

    verdict: Verdict
    p_adjusted: float
    """Holm over all algorithms compared."""
    detectable: float
    """Smallest true difference detected with the requested power, at the strictest Holm level."""


def paired_comparison(
    values: Float[Tensor, "s p"],
    baseline: Float[Tensor, "s_baseline p_baseline"],
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Difference of two algorithms run on the same seeds and problems, with its uncertainty.

    A cell missing in one of them is left out of both. Raises ValueError for tables of different
    shape, an infinite value, a level outside (0, 1), or a seed without a single pair.
    """
    differences = paired_differences(values, baseline)
    if not 0 < level < 1:
        raise ValueError(f"paired_comparison: level = {level}, needs a value in (0, 1)")
    by_seed = differences.nanmean(dim=1)
    means = bootstrap_means(differences, draws=draws, seed=seed)
    tails = means.new_tensor([(1 - level) / 2, (1 + level) / 2])
    low, high = torch.quantile(means, tails).tolist()
    seeds = by_seed.shape[0]
    error = float(by_seed.std()) / math.sqrt(seeds) if seeds > 1 else math.inf
    difference = float(by_seed.mean())
    reach = student_quantile((1 + level) / 2, seeds - 1) * error if seeds > 1 else math.inf
    return PairedComparison(
        difference=difference,
        seed_differences=tuple(by_seed.tolist()),
        interval=(low, high),
        seed_interval=(difference - reach, difference + reach) if seeds > 1 else None,
        bootstrap_error=float(means.std()),
        seed_error=error,
        p_value=max(bootstrap_p_value(means), seed_p_value(difference, error, seeds)),
        seeds=seeds,
        problems=int((~differences.isnan()).any(dim=0).sum()),
    )


def paired_differences(
    values: Float[Tensor, "s p"], baseline: Float[Tensor, "s_baseline p_baseline"]
) -> Float[Tensor, "s p"]:
    """Cell by cell in float64, NaN where either is missing. Raises ValueError as its caller."""
    if values.shape != baseline.shape or values.dim() != 2 or not values.numel():
        raise ValueError(
            f"paired_differences: tables of shape {tuple(values.shape)} and "
            f"{tuple(baseline.shape)}: needs two [seeds, problems] of equal shape, not empty"
        )
    if values.isinf().any() or baseline.isinf().any():
        raise ValueError("paired_differences: an infinite value: needs finite ones or NaN")
    differences = values.double() - baseline.double()
    empty = differences.isnan().all(dim=1).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"paired_differences: seeds in rows {empty} have no problem with a verdict of both"
        )
    return differences


def bootstrap_means(
    differences: Float[Tensor, "s p"], *, draws: int = 10_000, seed: int = 0
) -> Float[Tensor, " b"]:
    """Mean over seeds of the mean over problems, in tables with both resampled.

    The same seed draws the same seeds and problems for every algorithm of a comparison.
    """
    if draws < 1:
        raise ValueError(f"bootstrap_means: draws = {draws}, needs 1 or more")
    seeds, problems = differences.shape
    generator = torch.Generator().manual_seed(seed)
    present = (~differences.isnan()).double()
    filled = differences.double().nan_to_num(0.0)
    means = []
    for start in range(0, draws, step := max(1, CHUNK_CELLS // problems)):
        size = min(step, draws - start)
        rows = torch.randint(seeds, (size, seeds), generator=generator)
        counts = _draw_counts(size, problems, generator)
        by_seed = (counts @ filled.T) / (counts @ present.T)
        means.append(by_seed.gather(1, rows).nanmean(dim=1))
    drawn = torch.cat(means)
    return drawn[~drawn.isnan()]  # where most verdicts are missing a resample may hold none


def bootstrap_p_value(means: Float[Tensor, " b"]) -> float:
    """Two-sided: twice the share of bootstrap means on the far side of 0, never quite 0."""
    below, above = int((means <= 0).sum()), int((means >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (means.numel() + 1))


def seed_p_value(difference: float, error: float, seeds: int) -> float:
    """Two-sided t test over seeds; 1 with one seed, which says nothing about others."""
    if seeds < 2 or difference == 0:
        return 1.0
    if error == 0:
        return 0.0
    from scipy.special import stdtr

    return float(2 * stdtr(seeds - 1, -abs(difference) / error))


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t; infinite with no degree of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability)) if freedom > 0 else math.inf


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(probability))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: reject those at or below alpha.

    The k-th smallest of m is multiplied by m - k + 1; none may fall below one before it.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def minimum_detectable_effect(
    seed_error: float,
    seeds: int,
    *,
    bootstrap_error: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Smallest true difference that would be detected with this power; infinite with one seed.

    (t(1 - alpha/2) + t(power)) standard errors, Bloom, Evaluation Review 19 (1995) 547-556; as
    a verdict needs the bootstrap too, at least the value with normal quantiles.
    """
    if seeds < 2:
        return math.inf
    tail = 1 - alpha / 2
    student = student_quantile(tail, seeds - 1) + student_quantile(power, seeds - 1)
    normal = normal_quantile(tail) + normal_quantile(power)
    return max(student * seed_error, normal * bootstrap_error)


def judge(
    comparisons: Mapping[Key, PairedComparison], *, alpha: float = 0.05, power: float = 0.8
) -> dict[Key, Judgement]:
    """The verdicts of a family of comparisons, corrected for their number."""
    adjusted = holm([c.p_value for c in comparisons.values()])
    return {
        key: Judgement(
            verdict=_word(comparison.difference, p_adjusted, alpha),
            p_adjusted=p_adjusted,
            detectable=minimum_detectable_effect(
                comparison.seed_error,
                comparison.seeds,
                bootstrap_error=comparison.bootstrap_error,
                alpha=alpha / len(comparisons),
                power=power,
            ),
        )
        for (key, comparison), p_adjusted in zip(comparisons.items(), adjusted, strict=True)
    }


def _word(difference: float, p_adjusted: float, alpha: float) -> Verdict:
    if p_adjusted > alpha or difference == 0:
        return "not distinguishable"
    return "better" if difference > 0 else "worse"


def _draw_counts(size: int, problems: int, generator: torch.Generator) -> Float[Tensor, "b p"]:
    """How often each problem is drawn in each of `size` resamples."""
    drawn = torch.randint(problems, (size, problems), generator=generator)
    counts = torch.zeros(size, problems, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones(1, 1, dtype=torch.float64).expand_as(drawn))
