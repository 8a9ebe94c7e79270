"""Results of an engine; in their own module, so that the driver need not import vllm."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """Properties of a started engine."""

    node: str
    dtype: str
    max_model_len: int
    vocab_size: int
    start_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RawCompletion:
    """One completion as arrays, which are cheap to send."""

    token_ids: np.ndarray
    logprobs: np.ndarray
    stopped: bool
