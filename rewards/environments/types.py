"""The interfaces of an environment, and the result of a rollout through one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from rlnorm.rewards.types import Status

Message = Mapping[str, str]
"""{"role": "user" | "tool" | "system", "content": text}."""


class EnvError(RuntimeError):
    """A server or sandbox that the environment depends on failed; the rollout is masked.

    Any other exception from an environment is a bug in it and stops the run.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The environment's response to one assistant turn."""

    messages: Sequence[Message] = ()
    """What the tool, the user or the environment says next; needed unless done."""
    reward: float = math.nan
    """The turn's reward; NaN if it has none."""
    done: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    """For logs: the last step's may carry `final`, the reward of the complete rollout."""


class Env(Protocol):
    """The state of one rollout. Methods must await slow work: blocking stalls every rollout."""

    stop: tuple[str, ...]
    """Strings that end an assistant turn, besides the model's own end tokens."""

    async def reset(self, seed: int) -> Sequence[Message]:
        """The first prompt; equal seeds give equal problems."""
        ...

    async def step(self, text: str) -> Step:
        """Answer one assistant turn; text is decoded, without the end token. It begins with the
        reasoning tag that the prompt left open, if it did."""
        ...


class TurnTokenizer(Protocol):
    """Encodes messages piece by piece; see chat.ChatTokenizer."""

    def open(self, messages: Sequence[Message]) -> list[int]:
        """The first prompt, up to where the assistant begins."""
        ...

    def extend(self, messages: Sequence[Message], last_id: int) -> list[int]:
        """What follows an assistant turn that ended in last_id, up to where the next begins."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of one assistant turn, without end, pad and turn tokens."""
        ...

    def open_tag(self, prompt_ids: Sequence[int], messages: Sequence[Message]) -> str:
        """The reasoning tag that what `open` or `extend` made of messages leaves open; else ""."""
        ...


Finish = Literal["stop", "length", "abort"]


class Generate(Protocol):
    """Sample one turn. The ids include the end token; logprobs are those of the sampled ids."""

    async def __call__(
        self, prompt_ids: list[int], max_tokens: int, seed: int, stop: tuple[str, ...]
    ) -> tuple[Sequence[int], Sequence[float], Finish]:
        """(token ids, logprobs, why it ended)."""
        ...


class RolloutStatus(StrEnum):
    """How a rollout ended. The last three are failures: masked from training, never a 0."""

    FINISHED = "finished"
    TRUNCATED = "truncated"
    """The token budget or the model's context ended it; its rewards count, as in single-turn
    tasks."""
    TURN_LIMIT = "turn_limit"
    WALL_CLOCK = "wall_clock"
    ENV_ERROR = "env_error"

    @property
    def is_failure(self) -> bool:
        """True when the rollout must not be trained on."""
        return self in _AS_REWARD_STATUS

    @property
    def reward_status(self) -> Status | None:
        """The status of every reward of a failed rollout; None for the others."""
        return _AS_REWARD_STATUS.get(self)


_AS_REWARD_STATUS = {
    RolloutStatus.TURN_LIMIT: Status.TIMEOUT,
    RolloutStatus.WALL_CLOCK: Status.TIMEOUT,
    RolloutStatus.ENV_ERROR: Status.INFRA_ERROR,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutLimits:
    """Limits of one rollout."""

    max_turns: int = 8
    wall_s: float = 120.0
    """Wall-clock seconds: sampling, tools and waiting together."""
    tokens_per_turn: int = 512
    total_tokens: int = 4096
    """All tokens after the first prompt: the policy's turns and the environment's messages."""
    context_tokens: int | None = None
    """The first prompt and all tokens after it; in a run at most the model's context."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not (value is None and name == "context_tokens") and not value > 0:
                raise ValueError(f"rollout limits.{name} = {getattr(self, name)!r}: must be > 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvRollout:
    """A complete rollout with exactly the tokens that were sampled and conditioned on.

    prompt_ids + token_ids is the last turn's context plus the last turn: nothing was decoded and
    encoded again. The four vectors have one entry per token of token_ids.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """The sampler's, in nats; 0 where policy_mask is False."""
    policy_mask: tuple[bool, ...]
    """False on tokens that a tool, a user or the environment wrote."""
    turn_index: tuple[int, ...]
    """Index of the assistant turn; the environment's tokens count to the turn they answer."""
    turn_rewards: tuple[float, ...]
    """One per turn; NaN for a turn without one, and for every turn of a failed rollout."""
    finish: Finish
    status: RolloutStatus
    error: str
    """What failed; empty otherwise."""
    turns: tuple[Mapping[str, Any], ...]
    """For logs and rewards: text, reward, info and seconds of each turn."""
    seconds: float

    @property
    def final(self) -> float:
        """The reward of the rollout: `final` of the last turn's info, else the sum over turns.

        NaN for a failed rollout.
        """
        if self.status.is_failure:
            return math.nan
        final = self.turns[-1]["info"].get("final") if self.turns else None
        if final is not None:
            return float(final)
        return math.fsum(reward for reward in self.turn_rewards if not math.isnan(reward))
