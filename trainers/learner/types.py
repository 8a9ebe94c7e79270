"""The interface of learners."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from rlnorm.types import StepResult, TokenBatch

Columns = dict[str, Float[Tensor, " t"]]
"""Per-token values of a batch, by name."""


class Learner(Protocol):
    """Scores tokens, takes optimizer steps, provides weights. Batches are global: an implementation
    may split them over ranks and microbatches without changing the result."""

    policy_version: int
    """Optimizer steps taken, without skipped ones; 0 for the initial weights."""

    async def start(self) -> None:
        """Load the model and the optimizer."""

    async def score(self, batch: TokenBatch, want: frozenset[str]) -> Columns:
        """Per-token columns without gradient, 0 where loss_mask is False.

        want: any of old_logprobs, ref_logprobs, proxy_logprobs, proximal_logprobs, entropy, sum_p2.
        """
        ...

    async def step(self, batch: TokenBatch, lr: float) -> StepResult:
        """One optimizer step on the batch; it is skipped if the gradient is not finite.

        A skipped step does not change weights or version, and saves the batch.
        """
        ...

    def weights(self) -> AsyncIterator[list[tuple[str, Tensor]]]:
        """Full tensors by Hugging Face name in buckets, with LoRA merged in float32 in a copy."""
        ...

    async def save(self, folder: Path) -> None:
        """Write `model/` (Hugging Face safetensors), `trainer_state/` and, of a LoRA model,
        `adapter/` (peft) into a folder."""

    async def load(self, folder: Path) -> None:
        """Restore exactly what `save` wrote."""

    async def close(self) -> None:
        """Free the device memory and end the processes that this learner started."""
