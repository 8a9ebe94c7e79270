"""Does a judge still agree with the rule beside it? One that pays more often than before where the
rule does not (or the reverse) is perhaps being talked round."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.types import Sample, Status

MIN_ROWS = 30
"""Rows seen in earlier batches, below which nothing is said."""
MAX_SD = 3.0


@dataclass(eq=False, slots=True)
class Agreement:
    """Of one judge with one rule, over the batches so far; both are names of components."""

    judge: str
    rule: str
    rows: int = 0
    """On which both had a verdict."""
    differ: int = 0
    """Rows that one of the two calls correct and the other does not."""
    last: float = math.nan
    """Share of the last batch's rows on which they differed; NaN without such rows."""

    def observe(
        self, samples: Sequence[Sample], scores: Sequence[Mapping[str, ComponentScore]]
    ) -> str | None:
        """Take in a batch; a message when they differ on more of it than on all before it.

        More means: share > p + MAX_SD * sqrt(p * (1 - p) / groups), where p = (differ + 1) /
        (rows + 2) over the earlier batches. Samples of one group count as one draw, since their
        prompt is the same.
        """
        both = [
            (sample.group, row[self.judge].status, row[self.rule].status)
            for sample, row in zip(samples, scores, strict=True)
            # what a judge was not asked about (no answer) is no judgement
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
                    f"{self.differ} of {self.rows}; on {alone} it alone says correct"
                )
        self.rows, self.differ = self.rows + len(pairs), self.differ + differ
        return message
