"""token_stats, stats_from_logits: the public functions of rlnorm.kernels."""

from typing import Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.kernels import reference, validation
from rlnorm.kernels.backends import resolve_backend
from rlnorm.kernels.functions import head_stats, logit_stats
from rlnorm.kernels.prepare import prepare_head, prepare_options
from rlnorm.kernels.summary import selected
from rlnorm.kernels.types import HeadArguments, HeadOptions, TokenStats


def token_stats(
    hidden: Float[Tensor, "t d"],
    weight: Float[Tensor, "v d"],
    targets: Int[Tensor, " t"],
    *,
    bias: Float[Tensor, " v"] | None = None,
    backend: str = "auto",
    **arguments: Unpack[HeadArguments],
) -> TokenStats:
    """Statistics of softmax(softcap(hidden weight^T + bias) / temperature) at each token.

    Differentiable in hidden, weight and bias (whichever require it) through logprob, entropy,
    lse, log_kept_mass and proxy_logprob. Results are float32; float64 for float64 operands.
    Backward leaves rows with zero upstream gradient out of the matrix products; when all logits
    fit in the workspace they are kept and not recomputed.

    `types.HeadArguments` documents the other arguments. Raises ValueError naming the argument,
    RuntimeError for a backend that is not available.
    """
    head = prepare_head(hidden, weight, bias, targets, arguments)
    if head.is_empty:
        return head.nothing()
    if backend == "reference":
        logits = reference.head_logits(*head.operands[:3], head.options)
        stats = _reference_stats(logits, head.operands.targets, head.options, hidden.dtype)
    else:
        resolved = resolve_backend(backend, hidden.device, hidden.dtype)
        stats = selected(*head_stats(head.operands, head.options, resolved), head.options.want)
    return head.scatter(stats)


def stats_from_logits(
    logits: Float[Tensor, "t v"],
    targets: Int[Tensor, " t"],
    *,
    backend: str = "auto",
    **arguments: Unpack[HeadArguments],
) -> TokenStats:
    """The same statistics, differentiable in the logits, for a model that returns only those."""
    validation.check_matrix("logits", logits)
    options = prepare_options(logits, logits.shape[1], targets, **arguments)
    chosen, row_mask = targets.long(), arguments.get("row_mask")
    if row_mask is not None:
        chosen = chosen.where(row_mask, options.vocab_start)
    columns = logits[:, : options.columns]
    # the compiled row kernels step through a row one element at a time
    columns = columns if columns.stride(1) == 1 else columns.contiguous()
    if backend == "reference":
        stats = _reference_stats(columns, chosen, options, logits.dtype)
    else:
        resolved = resolve_backend(backend, logits.device, logits.dtype)
        stats = selected(*logit_stats(columns, chosen, options, resolved), options.want)
    if row_mask is None:
        return stats
    return TokenStats(*(None if x is None else x.where(row_mask, 0.0) for x in stats))


def _reference_stats(
    logits: Float[Tensor, "t k"],
    targets: Int[Tensor, " t"],
    options: HeadOptions,
    dtype: torch.dtype,
) -> TokenStats:
    if options.tp_group is not None:
        raise ValueError("backend = 'reference': cannot serve a tp_group, choose another")
    stats = reference.stats_of(logits, targets, options)
    result = torch.float64 if dtype == torch.float64 else torch.float32
    pairs = zip(TokenStats._fields, stats, strict=True)
    return TokenStats(
        **{name: x.to(result) for name, x in pairs if x is not None and name in options.want}
    )
