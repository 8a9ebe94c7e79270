"""The seam between the loop and whatever samples: requests in, token-exact completions out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from rlnorm.trainers.config.schema import RolloutConfig
from rlnorm.types import Completion

Logprobs = Float[Tensor, " _"]
"""Of tokens 1.. of one sequence, in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How to sample one completion. temperature 0 is greedy; top_k 0, top_p 1, min_p 0 are off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 512
    """Most tokens of one completion, its end token included."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; the token that completes one is kept."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end a completion, beside the model's own end tokens; kept in it."""


def sampling_params(config: RolloutConfig, *, temperature: float | None = None) -> SamplingParams:
    """The config's sampling; temperature 0 makes it greedy."""
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
    """One prompt and one seed for each completion wanted of it; it is prefilled once."""

    prompt_ids: tuple[int, ...]
    seeds: tuple[int, ...]
    """One completion a seed, each in 0 .. 2**63 - 1; a seed fixes its completion whatever else
    is in the batch (exactly in the local pool; up to the engine's own numerics in vLLM)."""
    sampling: SamplingParams


class RolloutPool(Protocol):
    """Samples completions. Every method raises with a reason before its deadline passes."""

    policy_version: int
    """Version of the weights now loaded; 0 before the first publish."""

    async def start(self) -> None:
        """Load the model; returns when the pool can sample."""

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[list[Completion]]:
        """One list a request, one completion a seed, in order.

        sampler_logprobs are log-softmax of logits / temperature over the full vocabulary, whatever
        top_p, top_k or min_p cut away; at temperature 0 they are taken at temperature 1.
        """
        ...

    async def score(
        self, sequences: Sequence[tuple[int, ...]], temperature: float
    ) -> list[Logprobs]:
        """Log-probability of tokens 1.. of each fixed sequence: the parity probe."""
        ...

    async def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Replace all weights, by Hugging Face name, and forget every cached prefix."""

    async def close(self) -> None:
        """Free the device memory and end the processes this pool started."""
