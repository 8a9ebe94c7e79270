"""The seam between the loop and whatever holds the gradients."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from rlnorm.types import StepResult, TokenBatch

Columns = dict[str, Float[Tensor, " t"]]
"""Per-token numbers of a batch, by name."""


class Learner(Protocol):
    """Scores tokens, takes optimizer steps, hands out weights. Batches are global: an
    implementation shards them over ranks and microbatches without changing the maths."""

    policy_version: int
    """Optimizer steps taken, skipped ones apart; 0 for the initial weights."""

    async def start(self) -> None:
        """Load the model and the optimizer."""

    async def score(self, batch: TokenBatch, want: frozenset[str]) -> Columns:
        """Per-token columns without gradient, 0 where loss_mask is False.

        want: any of old_logprobs, ref_logprobs, proxy_logprobs, proximal_logprobs, entropy, sum_p2.
        """
        ...

    async def step(self, batch: TokenBatch, lr: float) -> StepResult:
        """One optimizer step over the whole batch; a non-finite gradient skips it.

        A skipped step leaves weights and version as they were and saves the batch.
        """
        ...

    def weights(self) -> AsyncIterator[list[tuple[str, Tensor]]]:
        """Whole tensors by Hugging Face name in buckets, LoRA merged in float32 into a copy."""
        ...

    async def save(self, folder: Path) -> None:
        """Write `model/` (Hugging Face safetensors) and `trainer_state/` into a folder."""

    async def load(self, folder: Path) -> None:
        """Continue from what `save` wrote, bit for bit."""

    async def close(self) -> None:
        """Free the device memory and end the processes this learner started."""
