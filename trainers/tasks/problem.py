"""The types of a task family: problems with levels, and the generator that draws one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A drawn problem without id and level."""

    question: str
    answer: str
    demonstration: str
    """A worked solution that ends in the answer in a box."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """What a verifier needs in addition to the answer, such as countdown's numbers and target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem(Draft):
    """One prompt with its gold answer. Example: id "chain-s7-00042", question "47-2 +1 ?"."""

    id: str
    level: int

    @property
    def messages(self) -> tuple[Mapping[str, str], ...]:
        """The prompt as a chat of one user turn."""
        return ({"role": "user", "content": self.question},)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One task family: how to draw a problem of a level, and the levels of each split."""

    draw: Callable[[Random, int], Draft]
    levels: tuple[int, ...]
    """All levels that can be drawn."""
    train_levels: tuple[int, ...]
    """The training mix; the held-out benchmark has the same levels."""
    hard_levels: tuple[int, ...]
    """The hard benchmark; in neither the warm start nor the training mix."""
