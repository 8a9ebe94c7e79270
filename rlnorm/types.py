"""The types that travel through a training step: one per stage, frozen, nothing filled in later.

Prompt -> RolloutGroup -> ScoredRollouts -> advantages -> TokenBatch -> StepResult.

Alignment, once for the entire library: a per-token vector is aligned to the token itself, so
`logprobs[p]` belongs to `token_ids[p]` and was predicted by the hidden state at p - 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

Rewards = Float[Tensor, "n r"] | Float[Tensor, " n"]
"""Every reward of every rollout, or one reward each; NaN where one is missing."""
GroupIndex = Int[Tensor, " n"] | None
"""Which rollouts share a prompt: any integers, in any order. None raises a ValueError."""


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL = "tool"
    ABORT = "abort"

    @property
    def is_truncated(self) -> bool:
        """True when the token budget, not the model, ended the completion."""
        return self is FinishReason.LENGTH


class Role(StrEnum):
    """What a rollout was sampled for."""

    TRAIN = "train"
    BASELINE = "baseline"
    """Its reward is subtracted from the others' (ReMax's greedy rollout); it is not trained on."""
    DROPPED = "dropped"
    """Of a group that resampling replaced, because its rewards did not differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One problem. Example: Prompt(prompt_id="chain-7", messages=[...], answer="92", level=3)."""

    prompt_id: str
    token_ids: tuple[int, ...]
    """The rendered prompt, chat template included; what the policy is conditioned on."""
    answer: Any = None
    """Gold answer, as the reward expects it."""
    source: str = ""
    """Which dataset or task family the row came from."""
    level: int | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Columns that an environment or a reward reads (tests of a coding task, tools, nums)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What the pool returns for one prompt and one seed; l tokens, end token included."""

    token_ids: Int[Tensor, " l"]
    sampler_logprobs: Float[Tensor, " l"]
    """Nats, under the weights and the temperature that sampled; 0 where policy_mask is False."""
    policy_mask: Bool[Tensor, " l"]
    """False on tokens that a tool, a user or an environment wrote."""
    turn_index: Int[Tensor, " l"]
    """Which assistant turn a token belongs to; all 0 in single-turn tasks."""
    finish_reason: FinishReason
    policy_versions: tuple[tuple[int, int], ...]
    """(first token, policy version) spans, in order. Example: ((0, 3), (120, 4))."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """A prompt, its completion and an identity that joins logs, tables and rewards."""

    rollout_id: str
    """`<step>/<prompt_id>/<sample>`. Example: "12/chain-7/3"."""
    prompt: Prompt
    completion: Completion
    text: str
    """The decoded completion, without end, pad and turn tokens."""
    open_tag: str = ""
    """The reasoning tag that the prompt of the last turn leaves open, such as `<think>`."""
    open_at: int = 0
    """Where in `text` the turn begins that this prompt opens."""
    role: Role = Role.TRAIN
    turn_rewards: tuple[float, ...] = ()
    """Rewards that an environment gave per turn; NaN where a turn has none."""
    turns: tuple[Mapping[str, Any], ...] = ()
    """What an environment logged of each turn."""
    final: float | None = None
    """An environment's reward of the complete rollout."""
    failure: str = ""
    """Why an environment's rollout failed (timeout, infra_error): all its rewards are masked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """The rollouts of one prompt at one step; fewer than G where some failed."""

    group_id: str
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRollouts:
    """All rollouts of a step, flat, with the reward components kept separate."""

    rollouts: tuple[Rollout, ...]
    rewards: Float[Tensor, "n r"]
    """float64; NaN exactly where status is no verdict: a failure, masked, or not applicable."""
    status: tuple[tuple[str, ...], ...]
    """n x r of correct, wrong, no_answer, unparsable, timeout, gold_error, infra_error,
    not_applicable."""
    reward_names: tuple[str, ...]
    group_index: Int[Tensor, " n"]
    truncated: Bool[Tensor, " n"]
    turn_rewards: Float[Tensor, "n u"] | None = None
    """float64; NaN where a rollout has no such turn."""


@dataclass(frozen=True, slots=True)
class Advantages:
    """What every estimator and modulator returns; a rollout not kept has advantage 0."""

    values: Float[Tensor, "..."]
    """[n] per rollout, [n u] per turn or [t] per trained token; float64, never NaN."""
    keep: Bool[Tensor, " n"]
    """False where a rollout takes no part in the loss and in none of its denominators."""
    rollout_index: Int[Tensor, " t"] | None = None
    """The rollout of each value where they are per token, else None."""

    def aligned(self, column: Shaped[Tensor, " n"]) -> Shaped[Tensor, "..."]:
        """A column with one entry per rollout, in a shape that broadcasts with `values`."""
        column = column if self.rollout_index is None else column[self.rollout_index]
        return column.reshape(-1, *([1] * (self.values.dim() - 1)))

    def per_token(
        self, rollout_index: Int[Tensor, " t"], turn_index: Int[Tensor, " t"]
    ) -> Float[Tensor, " t"]:
        """The advantage of each trained token. Raises ValueError for a turn without advantage."""
        if self.rollout_index is not None:
            return self.values
        if self.values.dim() == 1:
            return self.values[rollout_index]
        turns = self.values.shape[1]
        if turn_index.numel() and int(turn_index.max()) >= turns:
            raise ValueError(
                f"turn_index has {int(turn_index.max())}, needs a turn in [0, {turns - 1}] as "
                "turn_rewards has"
            )
        return self.values[rollout_index, turn_index]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossDenominators:
    """Counts over the entire optimizer step, fixed on the driver before any backward pass."""

    tokens: int
    """Trained tokens."""
    rollouts: int
    """Rollouts with at least one trained token."""
    horizon: int
    """The constant C of seq-mean-token-sum-norm: the most tokens a completion may have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenBatch:
    """Complete rollouts end to end, [t] tokens of n rollouts; a shard of it has this type too."""

    token_ids: Int[Tensor, " t"]
    positions: Int[Tensor, " t"]
    """Position of each token in its own rollout, from 0."""
    rollout_index: Int[Tensor, " t"]
    """Which of the n rollouts owns each token; non-decreasing."""
    cu_seqlens: Int[Tensor, " starts"]
    """[n + 1]: where each rollout starts; the last entry is t."""
    loss_mask: Bool[Tensor, " t"]
    """True where the policy chose the token and it trains; never at a rollout's first token."""
    columns: Mapping[str, Float[Tensor, " t"]]
    """Per-token constants by name (sampler_logprobs, old_logprobs, ref_logprobs, proxy_logprobs,
    advantages, correction); 0 where loss_mask is False."""
    temperature: float
    """Logits are divided by it before the softmax, as they were when sampling."""
    denominators: LossDenominators


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """One optimizer step."""

    policy_version: int
    """Version of the weights after the step."""
    loss: float
    grad_norm: float
    """Global 2-norm before clipping; inf or NaN when the step was skipped."""
    skipped: bool
    metrics: Mapping[str, float]
