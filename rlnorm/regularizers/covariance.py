"""Clip-Cov and KL-Cov: hold back the few tokens whose advantage and logprob move together.

Paper: arXiv:2505.22617
Formula: cov_t = (A - mean A)(lp - mean lp);  Clip-Cov: l = 0;  KL-Cov: l = -A rho + coef |lp - old|
When: entropy collapses early
Cost: an order statistic over all tokens of the step

Clip-Cov takes a random `share` of the tokens with cov between low and high that clipping leaves
alone; KL-Cov the `share` with the largest cov, and goes with a loss without clipping. Both are
chosen over the entire optimizer step. verl's default coef is 0.1, the authors' 1.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlnorm.options import Index, NonNegative, SomeShare, checked
from rlnorm.regularizers.types import Replacement


@checked()
def clip_cov(logprobs: Float[Tensor, " t"], selected: Bool[Tensor, " t"]) -> Replacement:
    """No loss on the selected tokens."""
    return Replacement(torch.zeros_like(logprobs), selected)


def _low_below_high(low: float, high: float) -> str:
    return "" if low < high else f"low, high = {low}, {high}: needs low < high"


@checked(_low_below_high)
def select_clip_cov(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    share: SomeShare = 2e-4,
    low: float = 1.0,
    high: float = 5.0,
    clip_low: NonNegative = 0.2,
    clip_high: NonNegative = 0.2,
    seed: Index = 0,
) -> Bool[Tensor, " t"]:
    """max(1, int(share * tokens)) random tokens with low < cov < high that the clip leaves alone.

    clip_low, clip_high: those of the loss. seed: of the draw. Raises ValueError unless share is
    in (0, 1].
    """
    ratio = (logprobs - old_logprobs).exp()
    held = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high) > -advantages * ratio
    cov = covariance(advantages, logprobs)
    candidates = ((cov > low) & (cov < high) & ~held).nonzero()[:, 0].cpu()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(candidates.numel(), generator=generator)
    count = max(1, int(share * logprobs.numel()))
    return _mask_of(candidates[drawn[:count]], logprobs)


@checked()
def kl_cov(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    selected: Bool[Tensor, " t"],
    *,
    coef: NonNegative = 0.1,
) -> Replacement:
    """The unclipped loss plus coef |lp - old| on the selected tokens."""
    difference = logprobs - old_logprobs
    return Replacement(-advantages * difference.exp() + coef * difference.abs(), selected)


@checked()
def select_kl_cov(
    logprobs: Float[Tensor, " t"], advantages: Float[Tensor, " t"], *, share: SomeShare = 2e-4
) -> Bool[Tensor, " t"]:
    """The max(1, int(share * tokens)) tokens of largest cov, any of equal ones.

    Raises ValueError unless share is in (0, 1].
    """
    count = max(1, int(share * logprobs.numel()))
    return _mask_of(covariance(advantages, logprobs).topk(count).indices, logprobs)


def covariance(
    advantages: Float[Tensor, " t"], logprobs: Float[Tensor, " t"]
) -> Float[Tensor, " t"]:
    """Product of the two deviations from their means over the tokens."""
    fixed = logprobs.detach()
    return (advantages - advantages.mean()) * (fixed - fixed.mean())


def _mask_of(index: Tensor, like: Tensor) -> Tensor:
    mask = torch.zeros(like.shape[0], dtype=torch.bool, device=like.device)
    mask[index.to(like.device)] = True
    return mask
