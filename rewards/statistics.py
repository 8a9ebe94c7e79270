"""Statistics of one component over one batch, and the alarms they raise."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.types import Status

TIMEOUT_ALARM_FRAC = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class ComponentStatistics:
    """mean and std (population) are over verdicts only; NaN when there are none.

    Shares are of the scores that apply, except that of not_applicable, which is of all.
    """

    count: int
    """Scores that apply."""
    mean: float
    std: float
    valid_frac: float
    status_frac: Mapping[Status, float]
    seconds_p50: float
    seconds_p99: float

    def flat(self) -> dict[str, float]:
        """Metric name -> number, for the loggers."""
        out = {"mean": self.mean, "std": self.std, "valid_frac": self.valid_frac}
        out |= {"seconds_p50": self.seconds_p50, "seconds_p99": self.seconds_p99}
        return out | {f"{status}_frac": self.status_frac[status] for status in Status}

    def alarms(self) -> list[tuple[str, str]]:
        """(kind, message) of everything unusual."""
        out = []
        timeouts = self.status_frac[Status.TIMEOUT]
        if timeouts > TIMEOUT_ALARM_FRAC:
            out.append(("timeouts", f"{timeouts:.1%} of {self.count} scores timed out"))
        failed = 1.0 - self.valid_frac - timeouts if self.count else 0.0
        if failed > TIMEOUT_ALARM_FRAC:
            out.append(("failures", f"{failed:.1%} of {self.count} scores have no verdict"))
        if self.count > 1 and self.std == 0.0:
            out.append(("constant", f"all {self.count} scores equal {self.mean:g}"))
        return out


def quantile(values: Sequence[float], q: float) -> float:
    """Nearest-rank quantile of the non-NaN values; NaN of none."""
    known = sorted(v for v in values if not math.isnan(v))
    return known[max(0, math.ceil(q * len(known)) - 1)] if known else math.nan


def summarize(scores: Sequence[ComponentScore]) -> ComponentStatistics:
    """Statistics of one component over a batch."""
    values = [s.value for s in scores if s.status.is_verdict]
    applied = [s for s in scores if s.status.applies]
    n = max(1, len(applied))
    mean = math.fsum(values) / len(values) if values else math.nan
    variance = math.fsum((v - mean) ** 2 for v in values) / len(values) if values else math.nan
    counts = Counter(s.status for s in scores)
    seconds = [s.seconds for s in applied]
    shares = {status: counts[status] / n for status in Status}
    shares[Status.NOT_APPLICABLE] = counts[Status.NOT_APPLICABLE] / max(1, len(scores))
    return ComponentStatistics(
        count=len(applied),
        mean=mean,
        std=math.sqrt(variance),
        valid_frac=len(values) / n if applied else math.nan,
        status_frac=shares,
        seconds_p50=quantile(seconds, 0.5),
        seconds_p99=quantile(seconds, 0.99),
    )
