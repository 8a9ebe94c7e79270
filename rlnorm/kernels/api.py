"""token_stats, stats_from_logits: the public functions of rlnorm.kernels."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.kernels import reference, validation, vocab_parallel
from rlnorm.kernels.backends import resolve_backend
from rlnorm.kernels.chunked import Operands, compute_dtype
from rlnorm.kernels.functions import head_stats, logit_stats
from rlnorm.kernels.summary import proxy_logprob
from rlnorm.kernels.types import HeadOptions, MinP, TokenStats

DEFAULT_WORKSPACE_BYTES = {"cpu": 64 << 20}
OTHER_WORKSPACE_BYTES = 512 << 20


def token_stats(
    hidden: Float[Tensor, "t d"],
    weight: Float[Tensor, "v d"],
    targets: Int[Tensor, " t"],
    *,
    temperature: float | Float[Tensor, " t"] = 1.0,
    want: Iterable[str] = ("logprob",),
    proxy: MinP | None = None,
    softcap: float | None = None,
    bias: Float[Tensor, " v"] | None = None,
    row_mask: Bool[Tensor, " t"] | None = None,
    vocab_start: int = 0,
    vocab_size: int | None = None,
    tp_group: Any = None,
    backend: str = "auto",
    workspace_bytes: int | None = None,
) -> TokenStats:
    """Statistics of softmax(softcap(hidden weight^T + bias) / temperature) at each token.

    Differentiable in hidden, weight and bias (whichever require it) through logprob, entropy,
    lse, log_kept_mass and proxy_logprob. Results are float32; float64 for float64 operands.
    Rows where row_mask is False give 0, their targets are not looked at, and they stay out of
    the matrix products; so do, in backward, rows into which only zeros flow.

    softcap: cap of cap * tanh(logit / cap). vocab_size: rows of weight beyond it are padding.
    tp_group: ranks hold consecutive rows of weight from vocab_start on; hidden, targets and the
    loss must be the same on all of them. workspace_bytes: room for logits, 64 MiB on a CPU and
    512 MiB elsewhere unless given; when all logits fit they are kept for backward.
    Raises ValueError naming the argument, RuntimeError for a backend that cannot serve.
    """
    validation.check_head(hidden, weight, bias)
    options = _options(
        hidden, weight.shape[0], targets, temperature, want, proxy, softcap, row_mask,
        vocab_start, vocab_size, tp_group, workspace_bytes,
    )  # fmt: skip
    index = None if row_mask is None else row_mask.nonzero()[:, 0]
    if index is not None and index.numel() == hidden.shape[0]:
        index = None
    if index is not None and index.numel() == 0:
        return _nothing(hidden, weight, options)
    operands = Operands(hidden, weight, bias, targets.long())
    if index is not None:
        operands = operands.at(index)
        options = options.at(index)
    stats = _head(operands, options, backend)
    if index is None:
        return stats
    t = hidden.shape[0]
    return TokenStats(
        *(None if x is None else x.new_zeros(t).index_copy(0, index, x) for x in stats)
    )


def stats_from_logits(
    logits: Float[Tensor, "t v"],
    targets: Int[Tensor, " t"],
    *,
    temperature: float | Float[Tensor, " t"] = 1.0,
    want: Iterable[str] = ("logprob",),
    proxy: MinP | None = None,
    softcap: float | None = None,
    row_mask: Bool[Tensor, " t"] | None = None,
    vocab_start: int = 0,
    vocab_size: int | None = None,
    tp_group: Any = None,
    backend: str = "auto",
    workspace_bytes: int | None = None,
) -> TokenStats:
    """The same statistics, differentiable in the logits, where a model hands out nothing else."""
    validation.check_matrix("logits", logits)
    options = _options(
        logits, logits.shape[1], targets, temperature, want, proxy, softcap, row_mask,
        vocab_start, vocab_size, tp_group, workspace_bytes,
    )  # fmt: skip
    chosen = targets.long()
    if row_mask is not None:
        chosen = chosen.where(row_mask, 0)
    columns = logits[:, : options.columns]
    if backend == "reference":
        stats = _reference_stats(columns, chosen, options, logits.dtype)
    else:
        resolved = resolve_backend(backend, logits.device, logits.dtype)
        raw, target_kept = logit_stats(columns, chosen, options, resolved)
        stats = _selected(raw, target_kept, options)
    if row_mask is None:
        return stats
    return TokenStats(*(None if x is None else x.where(row_mask, 0.0) for x in stats))


def _options(
    like: Float[Tensor, "t d"],
    rows: int,
    targets: Int[Tensor, " t"],
    temperature: float | Float[Tensor, " t"],
    want: Iterable[str],
    proxy: MinP | None,
    softcap: float | None,
    row_mask: Bool[Tensor, " t"] | None,
    vocab_start: int,
    vocab_size: int | None,
    tp_group: Any,
    workspace_bytes: int | None,
) -> HeadOptions:
    """Check everything but the operands' shapes and gather it."""
    names = validation.check_want(want, proxy)
    validation.check_scalars(temperature, softcap, workspace_bytes)
    t, device = like.shape[0], like.device
    validation.check_rows("targets", targets, t, device)
    if row_mask is not None:
        validation.check_rows("row_mask", row_mask, t, device)
    if isinstance(temperature, Tensor) and temperature.dim() > 0:
        validation.check_rows("temperature", temperature, t, device)
    world = 1 if tp_group is None else vocab_parallel.world_size(tp_group)
    size = validation.check_vocabulary(rows, vocab_start, vocab_size, tp_group)
    validation.check_values(targets, temperature, size, row_mask)
    dtype = compute_dtype(like)
    inverse = torch.as_tensor(temperature, dtype=dtype, device=device).reciprocal()
    if row_mask is not None and inverse.dim() > 0:
        inverse = inverse.where(row_mask, 1.0)
    default = DEFAULT_WORKSPACE_BYTES.get(device.type, OTHER_WORKSPACE_BYTES)
    columns = max(0, min(rows, size - vocab_start))
    return HeadOptions(
        want=names,
        inv_temperature=inverse.expand(t).contiguous(),
        proxy=proxy,
        softcap=softcap,
        vocab_start=vocab_start,
        columns=columns,
        shard_columns=-(-size // world),
        workspace_bytes=default if workspace_bytes is None else workspace_bytes,
        tp_group=tp_group,
    )


def _head(operands: Operands, options: HeadOptions, backend: str) -> TokenStats:
    hidden, weight, bias, targets = operands
    if backend == "reference":
        logits = reference.head_logits(hidden, weight, bias, options)
        return _reference_stats(logits, targets, options, hidden.dtype)
    resolved = resolve_backend(backend, hidden.device, hidden.dtype)
    stats, target_kept = head_stats(operands, options, resolved)
    return _selected(stats, target_kept, options)


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


def _selected(stats: TokenStats, target_kept: Tensor | None, options: HeadOptions) -> TokenStats:
    """What was asked for, proxy_logprob added."""
    if "proxy_logprob" in options.want:
        assert stats.logprob is not None
        assert stats.log_kept_mass is not None
        assert target_kept is not None
        proxy = proxy_logprob(stats.logprob, stats.log_kept_mass, target_kept)
        stats = stats._replace(proxy_logprob=proxy)
    pairs = zip(TokenStats._fields, stats, strict=True)
    return TokenStats(**{name: x for name, x in pairs if name in options.want})


def _nothing(
    hidden: Float[Tensor, "t d"], weight: Float[Tensor, "v d"], options: HeadOptions
) -> TokenStats:
    """All rows masked: zeros that still belong to the graph, so that backward gives zeros."""
    dtype = compute_dtype(hidden)
    anchor = hidden[:0].sum(dtype=dtype) + weight[:0].sum(dtype=dtype)
    zeros = torch.zeros(hidden.shape[0], dtype=dtype, device=hidden.device) + anchor
    return TokenStats(**{name: zeros for name in options.want})
