"""The definition: plain autograd over the full [t, v] logits, computed in float64.

Not for training: memory is several times t * v * 8 bytes. Every other backend is compared to it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.kernels.types import HeadOptions, TokenStats


def head_logits(
    hidden: Float[Tensor, "t d"],
    weight: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"] | None,
    options: HeadOptions,
) -> Float[Tensor, "t c"]:
    """float64 logits over the columns that are vocabulary, before softcap and temperature."""
    logits = hidden.double() @ weight[: options.columns].double().T
    return logits if bias is None else logits + bias[: options.columns].double()


def stats_of(
    logits: Float[Tensor, "t c"], targets: Int[Tensor, " t"], options: HeadOptions
) -> TokenStats:
    """Every statistic by its textbook formula, float64."""
    z = logits.double()
    if options.softcap is not None:
        z = options.softcap * torch.tanh(z / options.softcap)
    s = z * options.inv_temperature.double()[:, None]
    lse = s.logsumexp(dim=1)
    logprobs = s - lse[:, None]
    p = logprobs.exp()
    logprob = logprobs.gather(1, targets[:, None])[:, 0]
    log_kept = proxy = None
    if options.proxy is not None:
        with torch.no_grad():
            offsets = options.proxy.offsets(options.inv_temperature.double())
            kept = s >= s.amax(dim=1, keepdim=True) + offsets[:, None]
        log_kept = s.masked_fill(~kept, -torch.inf).logsumexp(dim=1) - lse
        target_kept = kept.gather(1, targets[:, None])[:, 0]
        proxy = (logprob - log_kept).where(target_kept, -torch.inf)
    return TokenStats(
        logprob=logprob,
        entropy=-(p * logprobs.masked_fill(p == 0, 0.0)).sum(dim=1),
        lse=lse,
        max_logprob=logprobs.detach().amax(dim=1),
        log_kept_mass=log_kept,
        proxy_logprob=proxy,
        sum_p2=p.detach().square().sum(dim=1),
    )
