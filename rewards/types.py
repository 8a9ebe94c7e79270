"""What a reward sees and what it returns: plain, picklable data, free of torch and ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from rlnorm.rewards.text import after_reasoning


class Status(StrEnum):
    """Outcome of one score. A failure (timeout, gold_error, infra_error) is never a 0: it masks its
    rollout. A reward that is not applicable is left out of every sum and mean."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    GOLD_ERROR = "gold_error"
    INFRA_ERROR = "infra_error"
    NOT_APPLICABLE = "not_applicable"

    @property
    def is_verdict(self) -> bool:
        """True when the score may be trained on."""
        return self in _VERDICTS

    @property
    def applies(self) -> bool:
        """False where the reward has nothing to say about the sample."""
        return self is not Status.NOT_APPLICABLE


_VERDICTS = {Status.CORRECT, Status.WRONG, Status.NO_ANSWER, Status.UNPARSABLE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Everything a reward may see of one rollout."""

    id: str
    group: str
    completion: str
    """Decoded completion text, without end, pad and turn tokens."""
    gold: Any = None
    token_ids: Sequence[int] = ()
    finish: Literal["stop", "length", "tool", "abort"] = "stop"
    messages: Sequence[Mapping[str, Any]] = ()
    """The prompt, as chat messages."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Source, level and the other columns of the data row."""
    turns: Sequence[Mapping[str, Any]] | None = None
    open_tag: str = ""
    """The reasoning tag that the prompt of the last turn leaves open, such as `<think>`."""
    open_at: int = 0
    """Where in `completion` the turn begins that this prompt opens; 0 without an environment."""

    @property
    def full_text(self) -> str:
        """The completion with `open_tag` where the prompt left it open."""
        return self.completion[: self.open_at] + self.open_tag + self.completion[self.open_at :]

    @property
    def after_reasoning(self) -> str | None:
        """What follows the reasoning, with or without an open tag; None if that never ends."""
        return after_reasoning(self.full_text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One reward's verdict on one sample."""

    components: Mapping[str, float | None]
    """By name, exactly the names the reward declares; finite, or None for a component that does not
    apply to the sample. Ignored if status is no verdict."""
    status: Status
    seconds: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)
    per_turn: Sequence[float] | None = None
    """One number per turn of the assistant, NaN for a turn without; for turn-level estimators."""
