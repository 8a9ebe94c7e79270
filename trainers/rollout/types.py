"""The interface of rollout pools: requests in, completions as exact token ids out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from rlnorm.trainers.config.schema import RolloutConfig
from rlnorm.types import Completion

Logprobs = Float[Tensor, " _"]
"""Log-probabilities of tokens 1.. of one sequence, in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to sample one completion. temperature 0 is greedy; top_k 0, top_p 1, min_p 0 are off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 512
    """Maximum tokens of one completion, including its end token."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; the token that completes one is kept."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end a completion and are kept, in addition to the model's end tokens."""


def sampling_params(config: RolloutConfig, *, temperature: float | None = None) -> SamplingParams:
    """The config's sampling parameters. temperature: replaces the config's; 0 is greedy."""
    return SamplingParams(
        temperature=config.temperature if temperature is None else temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        min_p=config.min_p,
        max_tokens=config.max_tokens,
        stop=tuple(config.stop),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateRequest:
    """One prompt, which is prefilled once, and one seed per completion."""

    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]
    """Each in 0 .. 2**63 - 1. A seed determines its completion, whatever else is in the batch
    (exactly in the local pool, up to numerical differences in vLLM)."""
    sampling: SamplingParams


class RolloutPool(Protocol):
    """Samples completions. Every method returns or raises before its deadline."""

    policy_version: int
    """Version of the loaded weights; 0 before the first publish."""

    async def start(self) -> None:
        """Load the model; returns when the pool can sample."""

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[list[Completion]]:
        """One list per request with one completion per seed, in order.

        sampler_logprobs are log-softmax of logits / temperature over the full vocabulary,
        regardless of top_p, top_k and min_p; temperature 0 counts as 1 here.
        """
        ...

    async def score(
        self, sequences: Sequence[tuple[int, ...]], temperature: float
    ) -> list[Logprobs]:
        """Log-probabilities of tokens 1.. of each fixed sequence, for the parity probe."""
        ...

    async def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Replace all weights, by Hugging Face name, and clear cached prefixes."""

    async def close(self) -> None:
        """Free the device memory and end the processes that this pool started."""
