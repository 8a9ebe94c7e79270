"""From a caller's arguments to a validated call with the masked rows left out."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.kernels import validation, vocab_parallel
from rlnorm.kernels.chunked import Operands, compute_dtype
from rlnorm.kernels.types import HeadArguments, HeadOptions, MinP, TokenStats

# on a CPU larger ones gain nothing (docs/performance_kernels.md)
CPU_WORKSPACE_BYTES = 96 << 20
DEVICE_WORKSPACE_BYTES = 512 << 20


class PreparedHead(NamedTuple):
    """A call on the unmasked rows, and the way back to all rows."""

    operands: Operands
    options: HeadOptions
    chosen: Int[Tensor, " k"] | None
    """The unmasked rows; None for all."""
    rows: int
    anchor: Float[Tensor, ""]
    """A zero that depends on the operands, for calls in which every row is masked."""

    @property
    def is_empty(self) -> bool:
        """True when every row is masked."""
        return self.operands.hidden.shape[0] == 0

    def scatter(self, stats: TokenStats) -> TokenStats:
        """Back to all rows, 0 where masked."""
        if self.chosen is None:
            return stats
        full = self.anchor.new_zeros(self.rows)
        return TokenStats(
            *(None if x is None else full.index_copy(0, self.chosen, x) for x in stats)
        )

    def nothing(self) -> TokenStats:
        """Zeros that are part of the graph, so that backward gives zeros."""
        zeros = self.anchor.new_zeros(self.rows) + self.anchor
        return TokenStats(**{name: zeros for name in self.options.want})


def prepare_head(
    hidden: Float[Tensor, "t d"],
    weight: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"] | None,
    targets: Int[Tensor, " t"],
    arguments: HeadArguments,
) -> PreparedHead:
    """Check everything and leave out the masked rows."""
    validation.check_head(hidden, weight, bias)
    options = prepare_options(hidden, weight.shape[0], targets, **arguments)
    operands = Operands(hidden, weight, bias, targets.long())
    mask = arguments.get("row_mask")
    index = None if mask is None else mask.nonzero()[:, 0]
    if index is not None and index.numel() == hidden.shape[0]:
        index = None
    if index is not None:
        operands, options = operands.at(index), options.at(index)
    dtype = compute_dtype(hidden)
    anchor = torch.zeros((), dtype=dtype, device=hidden.device)
    if operands.hidden.shape[0] == 0:
        anchor = hidden[:0].sum(dtype=dtype) + weight[:0].sum(dtype=dtype)
    return PreparedHead(operands, options, index, hidden.shape[0], anchor)


def prepare_options(
    like: Float[Tensor, "t d"],
    rows: int,
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
    workspace_bytes: int | None = None,
) -> HeadOptions:
    """Check everything but the operands' shapes. rows: those of the weight on this rank."""
    wanted = validation.check_want(want, proxy)
    validation.check_scalars(temperature, softcap, workspace_bytes)
    t, device, dtype = like.shape[0], like.device, compute_dtype(like)
    per_token = (("targets", targets), ("row_mask", row_mask), ("temperature", temperature))
    for name, x in per_token:
        if isinstance(x, Tensor):
            validation.check_rows(name, x, t, device)
    world = 1 if tp_group is None else vocab_parallel.world_size(tp_group)
    size = validation.check_vocabulary(rows, vocab_start, vocab_size, tp_group)
    validation.check_values(targets, temperature, size, row_mask)
    if isinstance(temperature, Tensor):
        scale = temperature if row_mask is None else temperature.where(row_mask, 1.0)
        inverse = scale.to(dtype).reciprocal()
    else:
        inverse = torch.full((t,), 1.0 / temperature, dtype=dtype, device=device)
    default = CPU_WORKSPACE_BYTES if device.type == "cpu" else DEVICE_WORKSPACE_BYTES
    return HeadOptions(
        want=wanted,
        inv_temperature=inverse,
        proxy=proxy,
        softcap=softcap,
        vocab_start=vocab_start,
        columns=max(0, min(rows, size - vocab_start)),
        shard_columns=-(-size // world),
        workspace_bytes=default if workspace_bytes is None else workspace_bytes,
        tp_group=tp_group,
    )
