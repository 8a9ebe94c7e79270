"""Watches how often a judge disagrees with a rule on the same samples. A rise may mean that the
policy has learned to exploit the judge."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.types import Sample, Status

MIN_ROWS = 30
"""Rows that earlier batches must hold before a message is given."""
MAX_SD = 3.0


@dataclass(eq=False, slots=True)
class Agreement:
    """Agreement of a judge with a rule over all batches so far; both are names of components."""

    judge: str
    rule: str
    rows: int = 0
    """Number of rows on which both gave a verdict."""
    differ: int = 0
    """Number of rows that only one of the two calls correct."""
    last: float = math.nan
    """Share of the last batch's rows on which they differed; NaN without such rows."""

    def observe(
        self, samples: Sequence[Sample], scores: Sequence[Mapping[str, ComponentScore]]
    ) -> str | None:
        """Add a batch. Returns a message if they differ on a larger share of it than before.

        Larger: share > p + MAX_SD * sqrt(p * (1 - p) / groups), where p = (differ + 1) / (rows + 2)
        over the earlier batches. The samples of a group count as one draw: they share a prompt.
        """
        both = [
            (sample.group, row[self.judge].status, row[self.rule].status)
            for sample, row in zip(samples, scores, strict=True)
            # samples without an answer were never sent to the judge
            if row[self.judge].status in (Status.CORRECT, Status.WRONG)
            and row[self.rule].status.is_verdict
        ]
        pairs = [(judge is Status.CORRECT, rule is Status.CORRECT) for _, judge, rule in both]
        differ = sum(judge != rule for judge, rule in pairs)
        self.last = differ / len(pairs) if pairs else math.nan
        message = None
        if pairs and self.rows >= MIN_ROWS:
            usual = (self.differ + 1) / (self.rows + 2)
            groups = len({group for group, *_ in both})
            if self.last > usual + MAX_SD * math.sqrt(usual * (1 - usual) / groups):
                alone = sum(judge and not rule for judge, rule in pairs)
                message = (
                    f"differs from {self.rule} on {differ} of {len(pairs)} samples, before on "
                    f"{self.differ} of {self.rows}; only {self.judge} calls {alone} of them correct"
                )
        self.rows, self.differ = self.rows + len(pairs), self.differ + differ
        return message
