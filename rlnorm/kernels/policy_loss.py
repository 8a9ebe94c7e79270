"""Callback mode: loss and gradients are computed while a chunk's logits are in memory.

Three matrix products instead of the four of `token_stats` (6tdv operations, not 8tdv), for
losses that are sums over tokens once advantages and old logprobs are given: PPO-clip, CISPO,
Lp-Reg, entropy bonuses, k3. A sequence-level objective (GSPO, GMPO) needs all tokens of a
rollout before any gradient: use `token_stats` there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rlnorm.kernels import vocab_parallel
from rlnorm.kernels.backends import resolve_backend
from rlnorm.kernels.chunked import (
    FEW_ROWS,
    Backend,
    Gradients,
    Operands,
    Scratch,
    compute_dtype,
    compute_logits,
    spans,
    summarise_chunk,
    token_step,
    widened_step,
)
from rlnorm.kernels.functions import offsets
from rlnorm.kernels.prepare import prepare_head
from rlnorm.kernels.rows import RowInputs
from rlnorm.kernels.summary import Summary, Upstream, row_scalars, selected, token_stats_of
from rlnorm.kernels.types import (
    DIFFERENTIABLE,
    ROW_STATISTICS,
    HeadArguments,
    HeadOptions,
    TokenStats,
)

LossFn = Callable[[TokenStats, Tensor], Any]


class FusedLoss(NamedTuple):
    """What `fused_policy_loss` returns."""

    loss: Float[Tensor, ""]
    """Sum over the chunks of what the callback returned; backward may run once."""
    stats: TokenStats
    """Detached, [t], 0 on masked rows."""
    aux: list[Any]
    """Second item of each chunk's return value, in order; empty if it returned only a loss."""


def fused_policy_loss(
    hidden: Float[Tensor, "t d"],
    weight: Float[Tensor, "v d"],
    targets: Int[Tensor, " t"],
    loss_fn: LossFn,
    *,
    bias: Float[Tensor, " v"] | None = None,
    backend: str = "auto",
    **arguments: Unpack[HeadArguments],
) -> FusedLoss:
    """Sum over token chunks of loss_fn(stats of the chunk, positions of its tokens in [0, t)).

    loss_fn returns a scalar, or (scalar, anything), by torch operations on the stats it is given;
    it is called once per chunk and must be a sum over tokens. Everything else it reads has to be
    constant: a differentiable tensor of its own raises ValueError. The other arguments are those
    of `token_stats`; the reference backend is not served.
    """
    head = prepare_head(hidden, weight, bias, targets, arguments)
    resolved = resolve_backend(backend, hidden.device, hidden.dtype)
    resolved = resolved.for_gradients_of(head.operands.hidden.shape[0])
    run = _Run(head.options, resolved, loss_fn, head.chosen)
    if head.is_empty:
        return FusedLoss(head.anchor, head.nothing(), [])
    loss = _FusedLoss.apply(*head.operands, run)  # type: ignore[no-untyped-call]  # torch's apply
    columns = zip(*run.stats, strict=True)
    stats = TokenStats._make(None if c[0] is None else torch.cat(c) for c in columns)
    return FusedLoss(loss, head.scatter(stats), run.aux)


class _Run:
    """One call: computes loss and upstream gradients of chunks of logits."""

    def __init__(
        self, options: HeadOptions, backend: Backend, loss_fn: LossFn, index: Tensor | None
    ) -> None:
        self.options, self.backend, self.loss_fn, self.index = options, backend, loss_fn, index
        self.stats: list[TokenStats] = []
        self.aux: list[Any] = []
        # inside an autograd function it is off
        self.forms_gradients = torch.is_grad_enabled()

    def positions(self, tokens: slice, device: torch.device) -> Int[Tensor, " c"]:
        """Which rows of the caller's tensors a chunk holds."""
        if self.index is not None:
            return self.index[tokens]
        return torch.arange(tokens.start, tokens.stop, device=device)

    def upstream(self, summary: Summary, tokens: slice) -> tuple[Tensor, Upstream]:
        """The chunk's loss and its gradients in the row statistics."""
        leaves = token_stats_of(summary, ROW_STATISTICS)
        names = [n for n in DIFFERENTIABLE if getattr(leaves, n) is not None]
        with torch.enable_grad():
            made = {n: getattr(leaves, n).detach().requires_grad_() for n in names}
            stats = selected(leaves._replace(**made), summary.target_kept, self.options.want)
            returned = self.loss_fn(stats, self.positions(tokens, summary.peak.device))
        loss, *aux = returned if isinstance(returned, tuple) else (returned,)
        self.aux += aux
        self.stats.append(TokenStats(*(None if x is None else x.detach() for x in stats)))
        if not (isinstance(loss, Tensor) and loss.dim() == 0):
            raise ValueError(f"loss_fn returned {type(loss).__name__}: must be a scalar tensor")
        if not loss.requires_grad:
            return loss, Upstream()
        _check_sources(loss, list(made.values()))
        grads = torch.autograd.grad(loss, list(made.values()), allow_unused=True)
        return loss.detach(), Upstream(**dict(zip(made, grads, strict=True)))


def _check_sources(loss: Tensor, allowed: list[Tensor]) -> None:
    """Gradients would silently stop at a differentiable tensor that is not a statistic."""
    known = {id(x) for x in allowed}
    pending, seen = [loss.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known:
            raise ValueError(
                f"loss_fn uses a differentiable tensor of shape {tuple(leaf.shape)} that is not "
                "one of the stats it was given: detach it"
            )
        pending += [parent for parent, _ in node.next_functions]


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "t d"],
        weight: Float[Tensor, "v d"],
        bias: Float[Tensor, " v"] | None,
        targets: Int[Tensor, " t"],
        run: _Run,
    ) -> Float[Tensor, ""]:
        required = ctx.needs_input_grad[:3] if run.forms_gradients else (False,) * 3
        operands = Operands(run.backend.products.operand(hidden), weight, bias, targets)
        loss, grads = _run_chunks(operands, run, required)
        if grads is not None and grads.hidden is not None and run.options.tp_group is not None:
            vocab_parallel.add_over_ranks(grads.hidden, run.options.tp_group)
        ctx.formed = grads
        ctx.dtypes = [x.dtype for x in (hidden, weight, hidden if bias is None else bias)]
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Float[Tensor, ""]) -> tuple[Tensor | None, ...]:
        if ctx.formed is None:
            raise RuntimeError("fused_policy_loss: backward already ran, its gradients are gone")
        formed, ctx.formed = ctx.formed, None
        # one comparison spares a pass over the weight gradient in the usual case
        scaled = upstream.device.type != "cpu" or upstream != 1
        return (*formed.finish(ctx.dtypes, upstream if scaled else None), None, None)


def _run_chunks(
    operands: Operands, run: _Run, required: tuple[bool, bool, bool]
) -> tuple[Float[Tensor, ""], Gradients | None]:
    """Loss, and gradients where any are required."""
    t, options, backend = operands.hidden.shape[0], run.options, run.backend
    step = token_step(operands.hidden, options)
    scratch = Scratch(operands.hidden, step * options.columns, recompute=True)
    loss = torch.zeros((), dtype=compute_dtype(operands.hidden), device=operands.hidden.device)
    grads = None
    if any(required):
        # what is summed over chunks, or of few rows, is rounded once backward knows the scale
        full = step < t or t <= FEW_ROWS
        grads = Gradients(operands, backend.products, required=required, full_weight=full)
    offset = offsets(options)
    for span in spans(t, step):
        tokens, row_options = operands.at(span), options.at(span)
        z = scratch.logits((tokens.hidden.shape[0], options.columns))
        compute_logits(tokens, row_options, backend, z)
        summary = summarise_chunk(z, tokens.targets, row_options, backend.rows)
        chunk_loss, upstream = run.upstream(summary, span)
        loss += chunk_loss
        if grads is None or all(x is None for x in upstream):
            continue
        inputs = RowInputs(
            tokens.targets - options.vocab_start, row_options.inv_temperature, options.softcap
        )
        scalars = row_scalars(summary, upstream, None if offset is None else offset[span])
        dz = grads.of_logits(
            z, inputs, scalars, slice(options.columns), rows=backend.rows, scratch=scratch
        )
        for columns in spans(options.columns, widened_step(operands, options)):
            weight = backend.products.operand(operands.weight[columns])
            grads.add(dz[:, columns], tokens.hidden, weight, span, columns)
    return loss, grads
