"""From a caller's arguments to a validated call with the masked rows left out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.kernels import validation, vocab_parallel
from rlnorm.kernels.chunked import Operands, compute_dtype
from rlnorm.kernels.types import HeadOptions, MinP, TokenStats

# on a CPU larger ones gain nothing (docs/performance_kernels.md)
CPU_WORKSPACE_BYTES = 96 << 20
DEVICE_WORKSPACE_BYTES = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The keyword arguments the public functions share, unchecked; `token_stats` documents them."""

    temperature: float | Tensor
    want: Iterable[str]
    proxy: MinP | None
    softcap: float | None
    row_mask: Bool[Tensor, " t"] | None
    vocab_start: int
    vocab_size: int | None
    tp_group: Any
    workspace_bytes: int | None


class PreparedHead(NamedTuple):
    """A call on the rows that count, and the way back to all rows."""

    operands: Operands
    options: HeadOptions
    chosen: Int[Tensor, " k"] | None
    """The rows that count; None for all."""
    rows: int
    anchor: Float[Tensor, ""]
    """A zero that depends on the operands, for calls in which no row counts."""

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
        """Zeros that still belong to the graph, so that backward gives zeros."""
        zeros = self.anchor.new_zeros(self.rows) + self.anchor
        return TokenStats(**{name: zeros for name in self.options.want})


def prepare_head(
    hidden: Float[Tensor, "t d"],
    weight: Float[Tensor, "v d"],
    bias: Float[Tensor, " v"] | None,
    targets: Int[Tensor, " t"],
    arguments: Arguments,
) -> PreparedHead:
    """Check everything and leave out the masked rows."""
    validation.check_head(hidden, weight, bias)
    options = prepare_options(hidden, weight.shape[0], targets, arguments)
    operands = Operands(hidden, weight, bias, targets.long())
    index = None if arguments.row_mask is None else arguments.row_mask.nonzero()[:, 0]
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
    like: Float[Tensor, "t d"], rows: int, targets: Int[Tensor, " t"], arguments: Arguments
) -> HeadOptions:
    """Check everything but the operands' shapes. `rows` of the head are held here."""
    x = arguments
    want = validation.check_want(x.want, x.proxy)
    validation.check_scalars(x.temperature, x.softcap, x.workspace_bytes)
    t, device, dtype = like.shape[0], like.device, compute_dtype(like)
    validation.check_rows("targets", targets, t, device)
    if x.row_mask is not None:
        validation.check_rows("row_mask", x.row_mask, t, device)
    if isinstance(x.temperature, Tensor):
        validation.check_rows("temperature", x.temperature, t, device)
    world = 1 if x.tp_group is None else vocab_parallel.world_size(x.tp_group)
    size = validation.check_vocabulary(rows, x.vocab_start, x.vocab_size, x.tp_group)
    validation.check_values(targets, x.temperature, size, x.row_mask)
    if isinstance(x.temperature, Tensor):
        scale = x.temperature if x.row_mask is None else x.temperature.where(x.row_mask, 1.0)
        inverse = scale.to(dtype).reciprocal()
    else:
        inverse = torch.full((t,), 1.0 / x.temperature, dtype=dtype, device=device)
    default = CPU_WORKSPACE_BYTES if device.type == "cpu" else DEVICE_WORKSPACE_BYTES
    return HeadOptions(
        want=want,
        inv_temperature=inverse,
        proxy=x.proxy,
        softcap=x.softcap,
        vocab_start=x.vocab_start,
        columns=max(0, min(rows, size - x.vocab_start)),
        shard_columns=-(-size // world),
        workspace_bytes=default if x.workspace_bytes is None else x.workspace_bytes,
        tp_group=x.tp_group,
    )
