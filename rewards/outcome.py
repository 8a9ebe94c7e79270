"""What became of an item in a worker, and of the batch and the chunk that it belongs to."""

import math
import pickle
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one item."""

    kind: Literal["ok", "error", "memory", "timeout", "died"]
    value: Any
    """The function's return value, or an error message."""
    seconds: float
    """NaN if it was not run."""


def not_run() -> Outcome:
    """Of an item that is not run, since no item before it was in time."""
    return Outcome("timeout", "not run: no sample before it was in time", math.nan)


def read_outcome(kind: Any, data: bytes, seconds: float) -> Outcome:
    """What a worker sent; an error if its value does not unpickle here."""
    try:
        return Outcome(kind, pickle.loads(data), seconds)
    except Exception as error:  # unpickling runs the value's own code
        why = f"the returned value does not unpickle: {type(error).__name__}: {error}"
        return Outcome("error", why, seconds)


@dataclass(eq=False, slots=True)
class Batch:
    """One call of `map`, and how many of its items have passed the deadline or ended in time."""

    call: int
    deadline_s: float
    first_s: float
    give_up_after: int | None
    late: int = 0
    in_time: int = 0

    @property
    def hopeless(self) -> bool:
        """True if so many items were late, and none in time, that the others are not run."""
        limit = self.give_up_after
        return limit is not None and not self.in_time and self.late >= limit

    def count(self, outcome: Outcome) -> None:
        """Add an item that has ended."""
        late = outcome.kind == "timeout" or outcome.seconds > self.deadline_s
        self.late, self.in_time = self.late + late, self.in_time + (not late)


@dataclass(eq=False, slots=True)
class Chunk:
    """Items that a worker gets at once, and the outcomes of those that have ended."""

    batch: Batch
    items: Sequence[Any]
    future: "Future[list[Outcome]]" = field(default_factory=Future)
    outcomes: list[Outcome] = field(default_factory=list)
    load_attempts: int = 0

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of the next item."""
        self.outcomes.append(outcome)
        self.batch.count(outcome)
