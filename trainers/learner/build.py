"""Starts the learner of this process; seeds and device."""

import os
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import torch

from rlnorm.algorithms import Algorithm
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.learner.embedded import EmbeddedLearner


def build_device() -> torch.device:
    """The GPU if there is one, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(config: Config) -> None:
    """Seed the libraries and, with `deterministic`, select deterministic kernels."""
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses without it
    torch.use_deterministic_algorithms(config.deterministic)


async def start_embedded_learner(
    config: Config, algorithm: Algorithm, tokenizer: Any, faults: Path, stack: AsyncExitStack
) -> EmbeddedLearner:
    """Start the learner of this process; `stack` closes it. faults: folder of skipped batches."""
    learner = EmbeddedLearner(
        config.model,
        config.learner,
        algorithm,
        tokenizer,
        seed=config.seed,
        device=build_device(),
        faults=faults,
    )
    stack.push_async_callback(learner.close)
    await learner.start()
    return learner
