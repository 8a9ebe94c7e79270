"""Conditions of a reward that a person should know of; none of them stops a run."""

import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A condition worth checking; sent to `on_alarm`, never raised."""

    component: str
    """A component, or the reward that it is about."""
    kind: str
    """timeouts | failures | constant | disagreement | memory | waiting | close"""
    message: str

    def __str__(self) -> str:
        if self.kind == "waiting":
            return f"waiting for reward {self.component!r}: {self.message}"
        return f"reward {self.component!r}: {self.message}"


def log_alarm(alarm: Alarm) -> None:
    """The default alarm hook: a warning in the log."""
    log.warning("%s", alarm)
