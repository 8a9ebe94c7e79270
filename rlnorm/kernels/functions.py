"""The autograd boundary: row statistics of a head, and of given logits."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlnorm.kernels import vocab_parallel
from rlnorm.kernels.chunked import (
    Backend,
    Operands,
    compute_dtype,
    concatenate,
    forward_head,
    input_gradients,
    spans,
    summarise_chunk,
    token_step,
)
from rlnorm.kernels.rows import RowInputs
from rlnorm.kernels.summary import Summary, Upstream, row_scalars, token_stats_of
from rlnorm.kernels.types import ROW_STATISTICS, HeadOptions, TokenStats

# logprob, entropy, lse, log_kept_mass, then those without a gradient
Outputs = tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]


def _outputs(ctx: Any, summary: Summary) -> Outputs:
    """Save what backward needs of each row and return the statistics."""
    stats = token_stats_of(summary, ROW_STATISTICS)
    assert stats.logprob is not None
    assert stats.lse is not None
    assert stats.max_logprob is not None
    fixed = (stats.max_logprob, stats.sum_p2, summary.target_kept)
    ctx.mark_non_differentiable(*(x for x in fixed if x is not None))
    ctx.set_materialize_grads(False)
    return (stats.logprob, stats.entropy, stats.lse, stats.log_kept_mass, *fixed)


def _saved_rows(summary: Summary) -> tuple[Tensor | None, ...]:
    # a copy, since the caller may change the logprobs it is given
    return (*summary[:2], summary.logprob.clone(), summary.entropy, summary.log_kept_mass)


def _restored(saved: Sequence[Tensor | None], index: Any) -> Summary:
    peak, log_z, logprob, entropy, log_kept = (None if x is None else x[index] for x in saved)
    assert peak is not None
    assert log_z is not None
    assert logprob is not None
    return Summary(peak, log_z, logprob, entropy, None, log_kept)


def offsets(options: HeadOptions) -> Float[Tensor, " t"] | None:
    """The proxy's threshold below each row's peak."""
    return None if options.proxy is None else options.proxy.offsets(options.inv_temperature)


class HeadStats(torch.autograd.Function):
    """Statistics of softmax(hidden weight^T + bias) without the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "t d"],
        weight: Float[Tensor, "v d"],
        bias: Float[Tensor, " v"] | None,
        targets: Int[Tensor, " t"],
        options: HeadOptions,
        backend: Backend,
    ) -> Outputs:
        operands = Operands(backend.products.operand(hidden), weight, bias, targets)
        summary, ctx.kept = forward_head(operands, options, backend, keep=any(ctx.needs_input_grad))
        ctx.save_for_backward(hidden, weight, bias, targets, *_saved_rows(summary))
        ctx.options, ctx.backend = options, backend
        return _outputs(ctx, summary)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, *rows = ctx.saved_tensors
        options, kept = ctx.options, ctx.kept
        ctx.kept = None
        upstream = Upstream(*grads[:4])
        required = ctx.needs_input_grad[:3]
        empty = (None,) * 6
        if all(x is None for x in upstream) or not any(required):
            return empty
        active = upstream.nonzero() != 0
        index = active.nonzero()[:, 0]
        if index.numel() == 0:
            zeros = (torch.zeros_like(x) if x is not None else None for x in (hidden, weight, bias))
            return (
                *(x if need else None for x, need in zip(zeros, required, strict=True)),
                *empty[3:],
            )
        partial = index.numel() < hidden.shape[0]
        chosen: Any = index if partial else slice(None)
        backend = ctx.backend.for_gradients_of(index.numel())
        operands = Operands(backend.products.operand(hidden[chosen]), weight, bias, targets[chosen])
        upstream = Upstream(*(None if x is None else x[chosen] for x in upstream))
        options = options.at(chosen)
        scalars = row_scalars(_restored(rows, chosen), upstream, offsets(options))
        result = input_gradients(
            operands,
            options,
            backend,
            scalars,
            required=required,
            kept=None if kept is None else kept[chosen],
        )
        if result.hidden is not None and options.tp_group is not None:
            vocab_parallel.add_over_ranks(result.hidden, options.tp_group)
        dtypes = [x.dtype for x in (hidden, weight, hidden if bias is None else bias)]
        d_hidden, d_weight, d_bias = result.finish(dtypes)
        if partial and d_hidden is not None:
            d_hidden = torch.zeros_like(hidden).index_copy_(0, index, d_hidden)
        return d_hidden, d_weight, d_bias, None, None, None


class LogitStats(torch.autograd.Function):
    """The same for given logits; the gradient is as large as the logits, the rest a workspace."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "t k"],
        targets: Int[Tensor, " t"],
        options: HeadOptions,
        backend: Backend,
    ) -> Outputs:
        chunks = []
        for tokens in spans(logits.shape[0], token_step(logits, options)):
            z = logits[tokens].to(compute_dtype(logits))
            chunks.append(summarise_chunk(z, targets[tokens], options.at(tokens), backend.rows))
        summary = concatenate(chunks)
        ctx.save_for_backward(logits, targets, *_saved_rows(summary))
        ctx.options, ctx.backend = options, backend
        return _outputs(ctx, summary)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, targets, *rows = ctx.saved_tensors
        options: HeadOptions = ctx.options
        upstream = Upstream(*grads[:4])
        if all(x is None for x in upstream):
            return None, None, None, None
        scalars = row_scalars(_restored(rows, slice(None)), upstream, offsets(options))
        out = torch.empty_like(logits, memory_format=torch.contiguous_format)
        for tokens in spans(logits.shape[0], token_step(logits, options)):
            inputs = RowInputs(
                targets[tokens] - options.vocab_start,
                options.inv_temperature[tokens],
                options.softcap,
            )
            z = logits[tokens].to(compute_dtype(logits))
            ctx.backend.rows.gradient(z, inputs, scalars.at(tokens), out[tokens])
        # as in a head, rows with zero upstream gradient are left out whatever they hold
        out[upstream.nonzero() == 0] = 0
        return out, None, None, None


def head_stats(
    operands: Operands, options: HeadOptions, backend: Backend
) -> tuple[TokenStats, Tensor | None]:
    """All statistics of the head but proxy_logprob, and whether the proxy keeps each target."""
    hidden, weight, bias, targets = operands
    out = HeadStats.apply(hidden, weight, bias, targets, options, backend)  # type: ignore[no-untyped-call]  # torch's apply
    return _named(out)


def logit_stats(
    logits: Float[Tensor, "t k"], targets: Int[Tensor, " t"], options: HeadOptions, backend: Backend
) -> tuple[TokenStats, Tensor | None]:
    """The same for given logits."""
    return _named(LogitStats.apply(logits, targets, options, backend))  # type: ignore[no-untyped-call]  # torch's apply


def _named(out: Outputs) -> tuple[TokenStats, Tensor | None]:
    logprob, entropy, lse, log_kept, max_logprob, sum_p2, target_kept = out
    return TokenStats(
        logprob=logprob,
        entropy=entropy,
        lse=lse,
        max_logprob=max_logprob,
        log_kept_mass=log_kept,
        sum_p2=sum_p2,
    ), target_kept
