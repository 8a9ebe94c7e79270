"""Lp-Reg: protects unlikely tokens of wrong answers that a filtered policy would keep.

Paper: arXiv:2510.03222; CarlanLark/Lp-Reg-dev 33b27e27
Formula: on R: l = -A rho (unclipped) + coef * k(d),  d = log proxy - lp
When: exploration dies because rare sensible tokens are pushed to 0
Cost: the scoring pass also computes the proxy's logprob of every token

The proxy keeps the tokens with p >= kappa * max p of the old policy and renormalises. R: of the
tokens with A < 0 the floor(rho * number) least likely, none if fewer than two, and of those the
ones below their proxy. Departures: R is chosen over the entire optimizer step (the code: the
microbatch, so it depends on packing); logits are tempered before the filter. On the first
on-policy step the extra gradient is only 1/kept mass - 1; it grows when lp drifts below the proxy.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlnorm.losses.surrogate import log_ratio
from rlnorm.options import Bound, Count, NonNegative, Share, SomeShare, checked
from rlnorm.regularizers.kl import Kind, kl_estimate
from rlnorm.regularizers.types import Replacement


@checked()
def lp_reg(
    logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    proxy_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    selected: Bool[Tensor, " t"],
    *,
    coef: NonNegative = 1.0,
    kappa: SomeShare = 0.02,
    kind: Kind = "k3",
    max_log_ratio: Bound | None = 20.0,
) -> Replacement:
    """The loss that replaces the policy loss on the selected tokens.

    kappa: read by the scoring pass, which computes proxy_logprobs with it. kind: the estimate of
    the KL to the proxy, as in kl; "k2" is the authors' option "mse", d^2 / 2.
    Raises ValueError for kappa outside (0, 1].
    """
    ratio = log_ratio(logprobs, old_logprobs, max_log_ratio).exp()
    # a dropped token has proxy -inf; it is never selected, and must not reach exp either
    target = torch.where(selected, proxy_logprobs, logprobs.detach())
    divergence = kl_estimate(logprobs, target, kind=kind)
    return Replacement(-advantages * ratio + coef * divergence, selected)


@checked()
def select_lp_reg(
    logprobs: Float[Tensor, " t"],
    proxy_logprobs: Float[Tensor, " t"],
    advantages: Float[Tensor, " t"],
    *,
    rho: Share = 0.01,
    rho_pos: Share = 0.0,
    min_tokens: Count = 2,
) -> Bool[Tensor, " t"]:
    """The set R over all trained tokens of a step; rho_pos is the share for A > 0.

    Raises ValueError for a share outside [0, 1].
    """
    unlikely = _least_likely(logprobs, advantages < 0, rho, min_tokens)
    unlikely |= _least_likely(logprobs, advantages > 0, rho_pos, min_tokens)
    return unlikely & (logprobs < proxy_logprobs)


def _least_likely(
    logprobs: Float[Tensor, " t"], among: Bool[Tensor, " t"], share: float, min_tokens: int
) -> Bool[Tensor, " t"]:
    chosen = torch.zeros_like(among)
    candidates = among.nonzero()[:, 0]
    k = int(share * candidates.numel())
    if k >= min_tokens:
        chosen[candidates[logprobs[candidates].argsort(stable=True)[:k]]] = True
    return chosen
