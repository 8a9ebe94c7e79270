"""What one reward function returned, checked and turned into component scores."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.outcome import Outcome
from rlnorm.rewards.types import Score, Status

LARGEST = 1e30
"""Of a score in size: what is computed from larger ones, such as a variance, may be infinite."""


@dataclass(frozen=True, slots=True)
class ComponentScore:
    """One component of one sample."""

    value: float
    """NaN exactly where status is not a verdict."""
    status: Status
    seconds: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)
    per_turn: tuple[float, ...] | None = None

    def gated_to_zero(self) -> "ComponentScore":
        """The same score with value 0, since its gate was not passed."""
        turns = None if self.per_turn is None else (0.0,) * len(self.per_turn)
        detail = {**self.detail, "gated": self.value}
        return replace(self, value=0.0, detail=detail, per_turn=turns)


def not_applicable() -> ComponentScore:
    """The score of a reward that does not apply to its sample."""
    return ComponentScore(math.nan, Status.NOT_APPLICABLE)


def failure(status: Status, why: str, seconds: float = 0.0) -> ComponentScore:
    """A score that must not be trained on."""
    return ComponentScore(math.nan, status, seconds, {"error": why})


_FAILED = {
    "timeout": Status.TIMEOUT,
    "memory": Status.INFRA_ERROR,
    "died": Status.INFRA_ERROR,
    "error": Status.INFRA_ERROR,
}


def as_scores(
    outcome: Outcome, components: tuple[str, ...], reward: str, own: tuple[str, ...] = ()
) -> dict[str, ComponentScore]:
    """Check names and numbers. A plain number counts as correct when above 0, else as wrong; None
    means that the reward, or that component of it, does not apply.

    own: the reward's own names of its components; a single one is renamed as in the config.
    """
    if outcome.kind != "ok":
        failed = failure(_FAILED[outcome.kind], str(outcome.value), outcome.seconds)
        return dict.fromkeys(components, failed)
    value, seconds, status, turns = outcome.value, outcome.seconds, None, None
    if value is None:
        return {name: not_applicable() for name in components}
    detail: Mapping[str, Any] = {}
    if isinstance(value, Score):
        _check_form(value, reward)
        status, detail, turns = Status(value.status), value.detail, value.per_turn
        seconds = value.seconds or seconds
        value = value.components
        if len(components) == 1 and len(value) == 1:
            value = {components[0]: next(iter(value.values()))}
    elif len(components) == 1 and isinstance(value, Mapping) and (*value,) == own:
        value = value[own[0]]
    named = value if isinstance(value, Mapping) else {components[0]: value}
    if set(named) != set(components):
        raise RewardError(
            f"reward {reward!r} returned {_shown(value)}: must be exactly the components"
            f" {list(components)}" + ("" if len(components) > 1 else " or one number")
        )
    per_turn = None if turns is None else tuple(float(t) for t in turns)
    return {
        name: ComponentScore(*_number(named[name], status, reward), seconds, detail, per_turn)
        for name in components
    }


def _check_form(score: Score, reward: str) -> None:
    """Raise RewardError for a user's Score whose fields are not of their types."""
    said = f"reward {reward!r} returned Score"
    if score.status not in list(Status):
        allowed = ", ".join(Status)
        raise RewardError(f"{said}(status={_shown(score.status)}): allowed {allowed}")
    for name, kind in (("components", Mapping), ("detail", Mapping), ("seconds", int | float)):
        if not isinstance(value := getattr(score, name), kind):
            needed = "a number" if name == "seconds" else "a table"
            raise RewardError(f"{said}({name}={_shown(value)}): needs {needed}")
    turns = score.per_turn
    try:
        good = turns is None or all(abs(float(t)) <= LARGEST or math.isnan(t) for t in turns)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise RewardError(
            f"{said}(per_turn={_shown(turns)}): needs a number for each turn, of at most "
            f"{LARGEST:g} in size, or NaN"
        )


def _number(value: Any, status: Status | None, reward: str) -> tuple[float, Status]:
    if status is not None and not status.is_verdict:
        return math.nan, status
    if value is None:
        return math.nan, Status.NOT_APPLICABLE
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise RewardError(f"reward {reward!r} returned {_shown(value)}: needs a number") from None
    if isinstance(value, str) or not math.isfinite(number):
        raise RewardError(f"reward {reward!r} returned {_shown(value)}: needs a finite number")
    if abs(number) > LARGEST:
        raise RewardError(
            f"reward {reward!r} returned {_shown(value)}: needs a number of at most {LARGEST:g} in "
            "size"
        )
    return number, status or (Status.CORRECT if number > 0 else Status.WRONG)


def _shown(value: Any) -> str:
    text = repr(sorted(value)) if isinstance(value, Mapping) else repr(value)
    return text if len(text) < 200 else text[:200] + "..."
