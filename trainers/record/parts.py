"""The parts of a run, each from a start or a resume to its end, from the run's own files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rlnorm.trainers.record.run_dir import RunDir

Status = Literal["done", "stopped", "stopped at once", "failed", "not recorded"]
NOT_RECORDED = "killed, a lost machine, or a version of rlnorm that did not record it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One event `ended` of events.jsonl."""

    step: int
    """The last step whose metrics were written."""
    status: Status
    cause: str
    """The signal or the error that ended it; for `done` the number of steps."""
    seconds: float
    """Wall time from start to end; of an end that was not recorded the time of its steps."""

    def __str__(self) -> str:
        if self.status == "not recorded":
            return f"how it ended after step {self.step} was not recorded ({self.cause})"
        by = {"done": "", "failed": f": {self.cause}"}.get(self.status, f" by {self.cause}")
        return f"{self.status} after step {self.step}{by}"


def parts_of(run_dir: RunDir) -> list[Part]:
    """The parts that have ended, the oldest first."""
    return [
        Part(**{name: event[name] for name in Part.__dataclass_fields__})
        for event in run_dir.events_of("ended")
    ]


class Ending:
    """Records how the part that runs now ends, once."""

    def __init__(self, run_dir: RunDir, started: float) -> None:
        """started: time.perf_counter() at its start."""
        self._run_dir, self._started = run_dir, started
        self.part: Part | None = None

    def record(self, status: Status, cause: str) -> None:
        """Append the event `ended`, unless it is there already."""
        if self.part is None:
            seconds = time.perf_counter() - self._started
            self.part = _record(self._run_dir, status, cause, seconds)


def end_before_resume(run_dir: RunDir) -> Part:
    """How the run ended that is now resumed; an end that was not recorded is recorded now."""
    marks = run_dir.events_of("resumed", "ended")
    if marks and marks[-1]["event"] == "ended":
        return parts_of(run_dir)[-1]
    begun = marks[-1]["step"] if marks else -1
    rows = [row for row in run_dir.rows() if row["step"] > begun]
    return _record(run_dir, "not recorded", NOT_RECORDED, seconds_of(rows))


def times(rows: Sequence[Mapping[str, Any]], parts: Sequence[Part]) -> str:
    """Seconds of all steps, and of all parts from start to end, for the summary."""
    trained = sum(row.get("time/step_s") or 0.0 for row in rows)
    total = sum(part.seconds for part in parts)
    several = f" in {len(parts)} parts" if len(parts) > 1 else ""
    return f"{trained:.0f} s of training{several}, {total:.0f} s in total"


def seconds_of(rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of the steps and evaluations of these rows of metrics.jsonl."""
    times = (row.get(name) for row in rows for name in ("time/step_s", "time/eval_s"))
    return sum(seconds or 0.0 for seconds in times)


def _record(run_dir: RunDir, status: Status, cause: str, seconds: float) -> Part:
    """cause: its first line is kept."""
    first = (cause.strip().splitlines() or [""])[0]
    part = Part(step=_last_step(run_dir), status=status, cause=first, seconds=seconds)
    run_dir.log_event("ended", **{name: getattr(part, name) for name in Part.__dataclass_fields__})
    return part


def _last_step(run_dir: RunDir) -> int:
    return max((int(row["step"]) for row in run_dir.rows()), default=0)
