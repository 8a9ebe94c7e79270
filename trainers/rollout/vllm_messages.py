"""What an engine answers; apart from the engine, so that the driver reads it without vllm."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What an engine is, once it is up."""

    node: str
    dtype: str
    max_model_len: int
    vocab_size: int
    start_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RawCompletion:
    """One completion as arrays, cheap to send."""

    token_ids: np.ndarray
    logprobs: np.ndarray
    stopped: bool
