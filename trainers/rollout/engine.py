"""The interface of the local engines: resolved requests, raw tokens, deadlines."""

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rlnorm.trainers.rollout.types import Logprobs, SamplingParams


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A resolved request, as an engine decodes it."""

    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]
    sampling: SamplingParams
    max_tokens: int
    """Maximum new tokens, limited by the room left in the model's context."""
    end_ids: tuple[int, ...]
    """All tokens that end a completion: those of the model and those of the request."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One completion as an engine returns it."""

    token_ids: Int[Tensor, " l"]
    logprobs: Float[Tensor, " l"]
    stopped: bool
    """False if it was ended by the maximum number of tokens."""


def unpack(
    tokens: Int[Tensor, "b m"],
    logprobs: Float[Tensor, "b m"],
    lengths: Int[Tensor, " b"],
    stopped: Shaped[Tensor, " b"],
) -> list[Decoded]:
    """The rows of padded outputs, each truncated to its length."""
    used = torch.arange(tokens.shape[1])[None] < lengths[:, None]
    sizes = lengths.tolist()
    rows = zip(
        tokens[used].long().split(sizes),
        logprobs[used].split(sizes),
        stopped.bool().tolist(),
        strict=True,
    )
    return [Decoded(*row) for row in rows]


class Deadline:
    """The deadline of one call, with a flag that cancels it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end_s = time.monotonic() + seconds
        self.cancelled = ctypes.c_int32(0)

    def cancel(self) -> None:
        """Make the next check raise; the compiled engine reads the same flag."""
        self.cancelled.value = 1

    def left_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.end_s - time.monotonic())

    def check(self, waited_for: str) -> None:
        """Raise once the call was cancelled or its time is over. waited_for: for the message."""
        if self.cancelled.value:
            raise self.was_cancelled(waited_for)
        if time.monotonic() > self.end_s:
            raise self.was_late(waited_for)

    def was_cancelled(self, waited_for: str) -> InterruptedError:
        """The error of a cancelled call."""
        return InterruptedError(f"rollout: cancelled while waiting for {waited_for}")

    def was_late(self, waited_for: str) -> TimeoutError:
        """The error of a call that missed its deadline."""
        return TimeoutError(
            f"rollout: waited {self.seconds:g} s for {waited_for}; raise the deadline or sample "
            "fewer or shorter completions at once"
        )


class StopStrings:
    """Finds stop strings at the end of a growing completion."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode

    def found(self, token_ids: Sequence[int], stop: tuple[str, ...]) -> bool:
        """True if the last tokens contain a stop string; called after each token."""
        # a token has at least one byte; eight more tokens, in case the first character is cut
        window = max(len(s.encode()) for s in stop) + 8
        text = self._decode(token_ids[-window:])
        return any(s in text for s in stop)


class Engine(Protocol):
    """Samples and scores with its current weights."""

    name: str
    model: Any

    def refresh(self) -> None:
        """Read the changed weights of the model."""

    def generate(
        self, groups: Sequence[Group], deadline: Deadline, stop: StopStrings | None
    ) -> list[list[Decoded]]:
        """One completion per seed, groups and seeds in order."""
        ...

    def score(
        self, sequences: Sequence[tuple[int, ...]], temperature: float, deadline: Deadline
    ) -> list[Logprobs]:
        """Float32 log-probabilities of tokens 1.. of each sequence."""
        ...


def not_finite(prompt: int, position: int) -> FloatingPointError:
    """The error of both engines for logits that are not finite."""
    return FloatingPointError(
        f"rollout: logits of prompt {prompt} at token {position} are NaN or infinite: the weights "
        "are broken; look at grad_norm and learner.lr of the last steps"
    )
