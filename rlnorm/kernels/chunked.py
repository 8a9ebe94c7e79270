"""Statistics of the head, one chunk at a time: memory is the workspace, for any t and v.

Forward takes chunks of tokens over all columns. Backward recomputes the logits, over slices of
the vocabulary when t < v (each slice of the weight gradient is one product, written once) and
over chunks of tokens otherwise. When all logits fit in the workspace they are kept instead, and
backward does not recompute. Loops never run under autograd, so each chunk is freed after use.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.kernels import summary as summaries
from rlnorm.kernels import vocab_parallel
from rlnorm.kernels.products import Products, TorchProducts
from rlnorm.kernels.rows import RowInputs, RowKernels, RowScalars
from rlnorm.kernels.summary import Summary
from rlnorm.kernels.types import HeadOptions

# products of so few rows are bound by reading the weight, so float32 arithmetic is affordable
FEW_ROWS = 64


class Backend(NamedTuple):
    """The matrix products and row kernels of a backend."""

    name: str
    rows: RowKernels
    products: Products

    def for_gradients_of(self, rows: int) -> "Backend":
        """Gradients of few rows are multiplied in float32. Rounded to 16 bits before the product
        and again after it, they could be off by 2 * 2^-8 where one logit dominates; over many
        rows the first rounding averages out."""
        return self._replace(products=TorchProducts(widen=True)) if rows <= FEW_ROWS else self


class Operands(NamedTuple):
    """The tensors of a call, in the dtypes products take except weight, which is widened (where
    it must be) a slice at a time."""

    hidden: Float[Tensor, "t d"]
    weight: Float[Tensor, "v d"]
    bias: Float[Tensor, " v"] | None
    targets: Int[Tensor, " t"]

    def at(self, index: slice | Int[Tensor, " k"]) -> "Operands":
        """The same for some of the tokens."""
        return self._replace(hidden=self.hidden[index], targets=self.targets[index])


def spans(total: int, step: int) -> Iterator[slice]:
    """[0, total) in slices of `step`."""
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def _fit(count: int, multiple: int) -> int:
    """At least 1, and a multiple of `multiple` if count allows."""
    return max(1, count - count % multiple if count >= multiple else count)


def bytes_per_logit(hidden: Float[Tensor, "t d"]) -> int:
    """Of a float32 (or float64) logit, and of its gradient unless that can overwrite the logit."""
    return 8 if hidden.dtype == torch.float64 else 4 + (2 if hidden.itemsize == 2 else 0)


def token_step(hidden: Float[Tensor, "t d"], options: HeadOptions) -> int:
    """Tokens per chunk; the same on every rank of a split vocabulary."""
    per_token = options.shard_columns * bytes_per_logit(hidden)
    return min(_fit(options.workspace_bytes // per_token, 128), hidden.shape[0])


def _column_step(hidden: Float[Tensor, "t d"], options: HeadOptions) -> int:
    # on a GPU a column of the weight gradient of 16-bit operands is a float32 one at first
    sums = 4 * hidden.shape[1] if hidden.is_cuda and hidden.itemsize == 2 else 0
    per_column = hidden.shape[0] * bytes_per_logit(hidden) + sums
    return min(_fit(options.workspace_bytes // per_column, 256), options.columns)


def widened_step(operands: Operands, options: HeadOptions) -> int:
    """Columns of the weight that may be held widened at once; all if none are."""
    if operands.weight.dtype == operands.hidden.dtype:
        return max(1, options.columns)
    per_column = operands.weight.shape[1] * operands.hidden.itemsize
    return max(1, _fit(options.workspace_bytes // 4 // per_column, 64))


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of logits and statistics."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def compute_logits(
    operands: Operands, options: HeadOptions, backend: Backend, out: Float[Tensor, "c k"]
) -> None:
    """Fill `out` with the logits of all columns, before softcap and temperature."""
    for columns in spans(options.columns, widened_step(operands, options)):
        weight = backend.products.operand(operands.weight[columns])
        backend.products.logits(operands.hidden, weight, out[:, columns])
    if operands.bias is not None:
        out.add_(operands.bias[: options.columns])


def summarise_chunk(
    z: Float[Tensor, "c k"], targets: Int[Tensor, " c"], options: HeadOptions, rows: RowKernels
) -> Summary:
    """All row statistics of a chunk, from its logits."""
    inputs = RowInputs(targets - options.vocab_start, options.inv_temperature, options.softcap)
    partials = rows.statistics(
        z, inputs, entropy=options.wants_entropy, squares="sum_p2" in options.want
    )
    if options.tp_group is not None:
        partials = vocab_parallel.merge_over_ranks(partials, options.tp_group)
    summary = summaries.summarise(partials, options)
    if options.proxy is None or not options.wants_proxy:
        return summary
    offset = options.proxy.offsets(options.inv_temperature)
    kept, dropped = rows.kept_mass(z, inputs, summary.peak, offset)
    if options.tp_group is not None:
        kept, dropped = vocab_parallel.sum_over_ranks(kept, dropped, group=options.tp_group)
    return summaries.with_kept_mass(summary, kept, dropped, offset)


def concatenate(chunks: list[Summary]) -> Summary:
    """Summaries of consecutive chunks as one."""
    columns = zip(*chunks, strict=True)
    return Summary._make(None if c[0] is None else torch.cat(c) for c in columns)


def forward_head(
    operands: Operands, options: HeadOptions, backend: Backend, *, keep: bool
) -> tuple[Summary, Float[Tensor, "t k"] | None]:
    """The row summaries, and the logits where they may be kept and all fit at once."""
    t = operands.hidden.shape[0]
    step = token_step(operands.hidden, options)
    dtype = compute_dtype(operands.hidden)
    workspace = operands.hidden.new_empty((step, options.columns), dtype=dtype)
    chunks = []
    for tokens in spans(t, step):
        z = workspace[: tokens.stop - tokens.start]
        compute_logits(operands.at(tokens), options, backend, z)
        targets = operands.targets[tokens]
        chunks.append(summarise_chunk(z, targets, options.at(tokens), backend.rows))
    return concatenate(chunks), workspace if keep and step == t else None


class Gradients:
    """Accumulates the gradients that are required from blocks of d loss / d logits."""

    def __init__(
        self,
        operands: Operands,
        products: Products,
        *,
        required: tuple[bool, bool, bool],
        full_weight: bool,
    ) -> None:
        """full_weight: every block has all columns, so the weight gradient adds up over blocks."""
        self.products = products
        t, d = operands.hidden.shape
        self.dtype = compute_dtype(operands.hidden)
        weight = operands.weight
        like = operands.hidden
        self.hidden = like.new_zeros((t, d), dtype=self.dtype) if required[0] else None
        self.weight: Tensor | None = None
        self._sums_weight = full_weight
        if required[1]:
            dtype = self.dtype if full_weight else weight.dtype
            self.weight = torch.zeros(weight.shape, dtype=dtype, device=weight.device)
        self.bias = like.new_zeros(weight.shape[0], dtype=self.dtype) if required[2] else None

    def finish(
        self, dtypes: Sequence[torch.dtype], scale: Float[Tensor, ""] | None = None
    ) -> tuple[Tensor | None, ...]:
        """The sums times `scale`, rounded to the dtypes of the inputs; None where not required."""
        sums: tuple[Tensor | None, ...] = (self.hidden, self.weight, self.bias)
        if scale is not None:
            sums = tuple(None if x is None else x.mul_(scale) for x in sums)
        return tuple(None if x is None else x.to(y) for x, y in zip(sums, dtypes, strict=True))

    def add(
        self,
        dz: Float[Tensor, "c k"],
        hidden: Float[Tensor, "c d"],
        weight: Float[Tensor, "k d"],
        tokens: slice,
        columns: slice,
    ) -> None:
        """One block's share."""
        if self.hidden is not None:
            self.products.add(self.hidden[tokens], dz, weight)
        if self.weight is not None and self._sums_weight:
            self.products.add(self.weight[columns], dz.T, hidden)
        elif self.weight is not None:
            self.products.write(self.weight[columns], dz.T, hidden)

    def of_logits(
        self,
        z: Float[Tensor, "c k"],
        inputs: RowInputs,
        scalars: RowScalars,
        columns: slice,
        *,
        rows: RowKernels,
        scratch: "Scratch",
    ) -> Float[Tensor, "c k"]:
        """d loss / d z in the dtype products take; the bias adds it up before it is rounded."""
        dz = scratch.gradient_for(z)
        if self.bias is None:
            rows.gradient(z, inputs, scalars, dz)
            return dz
        rows.gradient(z, inputs, scalars, z)
        self.bias[columns] += z.sum(dim=0)
        return dz if dz is z else dz.copy_(z)


def input_gradients(
    operands: Operands,
    options: HeadOptions,
    backend: Backend,
    scalars: RowScalars,
    *,
    required: tuple[bool, bool, bool],
    kept: Float[Tensor, "t k"] | None = None,
) -> Gradients:
    """Gradients of the head's inputs over the given rows; `kept` logits are overwritten."""
    t, columns = operands.hidden.shape[0], options.columns
    token_width, column_width = t, widened_step(operands, options)
    if kept is None and t < columns:
        column_width = min(column_width, _column_step(operands.hidden, options))
    elif kept is None:
        token_width = token_step(operands.hidden, options)
    products = backend.products
    grads = Gradients(operands, products, required=required, full_weight=token_width < t)
    scratch = Scratch(operands.hidden, token_width * min(column_width, columns), kept is None)
    for token_span in spans(t, token_width):
        tokens = operands.at(token_span)
        for span in spans(columns, column_width):
            weight = products.operand(operands.weight[span])
            if kept is not None:
                z = kept[:, span]
            else:
                z = scratch.logits((tokens.hidden.shape[0], weight.shape[0]))
                products.logits(tokens.hidden, weight, z)
                if operands.bias is not None:
                    z.add_(operands.bias[span])
            local = tokens.targets - (options.vocab_start + span.start)
            inputs = RowInputs(local, options.inv_temperature[token_span], options.softcap)
            dz = grads.of_logits(
                z, inputs, scalars.at(token_span), span, rows=backend.rows, scratch=scratch
            )
            grads.add(dz, tokens.hidden, weight, token_span, span)
    return grads


class Scratch:
    """The workspace of backward: logits, and their gradient if its dtype differs."""

    def __init__(self, hidden: Float[Tensor, "t d"], elements: int, recompute: bool) -> None:
        dtype = compute_dtype(hidden)
        self._logits = hidden.new_empty(elements if recompute else 0, dtype=dtype)
        self._gradient = None if hidden.dtype == dtype else hidden.new_empty(elements)

    def logits(self, shape: tuple[int, int]) -> Float[Tensor, "c k"]:
        return self._logits[: shape[0] * shape[1]].view(shape)

    def gradient_for(self, z: Float[Tensor, "c k"]) -> Float[Tensor, "c k"]:
        return z if self._gradient is None else self._gradient[: z.numel()].view(z.shape)
