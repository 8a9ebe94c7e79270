"""The clipped surrogate that ppo_clip, gspo and gspo_token share, and the ratio below it."""

from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.losses.types import TokenLoss
from rlnorm.options import Within

Width = Annotated[float, Within(0, infinite=True)]
"""How far a ratio may be below or above 1."""


def log_ratio(
    logprobs: Float[Tensor, " t"], old_logprobs: Float[Tensor, " t"], max_log_ratio: float | None
) -> Float[Tensor, " t"]:
    """logprobs - old_logprobs, clamped to [-max_log_ratio, max_log_ratio] unless it is None."""
    difference = logprobs - old_logprobs
    return difference if max_log_ratio is None else difference.clamp(-max_log_ratio, max_log_ratio)


def clipped_surrogate(
    ratio: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    clip_low: float | None,
    clip_high: float | None,
    dual_clip: float | None = None,
    ratio_cap: float | None = None,
) -> TokenLoss:
    """max(-A ratio, -A clip(ratio, 1 - clip_low, 1 + clip_high)).

    dual_clip: for A < 0 the loss is at most -A dual_clip.

    ratio_cap: upper bound of the ratio in the first branch (TRL's delta).
    """
    bounds = (clip_low is not None, clip_high is not None)
    low = 1 - clip_low if clip_low is not None else None
    high = 1 + clip_high if clip_high is not None else None
    free = ratio if ratio_cap is None else ratio.clamp(max=ratio_cap)
    plain = -advantages * free
    held = -advantages * ratio.clamp(low, high) if any(bounds) else plain
    values = torch.maximum(plain, held) if any(bounds) else plain
    clipped = held > plain
    if dual_clip is None:
        return TokenLoss(values, clipped, torch.zeros_like(clipped))
    ceiling = -advantages * dual_clip
    clipped_low = (values > ceiling) & (advantages < 0)
    values = torch.where(advantages < 0, torch.minimum(values, ceiling), values)
    return TokenLoss(values, clipped, clipped_low)
