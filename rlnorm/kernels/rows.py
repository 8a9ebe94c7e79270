"""Row kernels: the work on a block of logits between the matrix products.

A backend is three functions over a [c, w] block of logits z (before softcap and temperature),
with s = softcapped z * inv_temperature. This file has the types they share and the plain torch
version, which runs on any device and in float64; `cpu` and `triton_backend` have the fast ones.
None of them changes z, except `gradient` when `out` is z itself.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

Block = Float[Tensor, "c w"]
PerRow = Float[Tensor, " c"]


class RowInputs(NamedTuple):
    """Per-row constants of a block."""

    targets: Int[Tensor, " c"]
    """Column of the target within the block; outside [0, w) when it lies in another block."""
    inv_temperature: PerRow
    softcap: float | None


class Partials(NamedTuple):
    """Sums over the columns of a block, relative to the block's largest s; merge exactly.

    The largest element (one of them on ties) is left out of `rest`, so Z = 1 + rest and
    log1p(rest) keeps small entropies and probabilities near one accurate.
    """

    peak: PerRow
    """max s; -inf for a block without columns."""
    rest: PerRow
    """sum exp(s - peak) without the largest element."""
    centred: PerRow
    """sum exp(s - peak) (s - peak), every term <= 0."""
    squares: PerRow
    """sum exp(s - peak)^2, the largest element included."""
    target: PerRow
    """s of the target; -inf when it lies in another block."""

    @classmethod
    def of_nothing(cls, z: Float[Tensor, "c 0"]) -> "Partials":
        """The partials of a block without columns."""
        zero = z.new_zeros(z.shape[0])
        return cls(zero - torch.inf, zero, zero, zero, zero - torch.inf)


class RowScalars(NamedTuple):
    """What `gradient` needs per row: ds_j = p_j [a + b u_j + (c where kept, else d)], but
    `at_target` for the target, with u_j = log p_j = (s_j - peak) - log_z."""

    peak: PerRow
    log_z: PerRow
    a: PerRow
    at_target: PerRow
    b: PerRow | None = None
    """None for 0: the entropy has no gradient."""
    c: PerRow | None = None
    """None for 0: the kept mass has no gradient."""
    d: PerRow | None = None
    """Given with c."""
    offset: PerRow | None = None
    """A column is kept where s - peak >= offset; given with c."""

    def at(self, index: slice | Int[Tensor, " k"]) -> "RowScalars":
        """The same for some of the rows."""
        return RowScalars._make(None if x is None else x[index] for x in self)


@runtime_checkable
class RowKernels(Protocol):
    """One implementation of the row kernels."""

    name: str

    def statistics(self, z: Block, rows: RowInputs, *, entropy: bool, squares: bool) -> Partials:
        """Partials of the block; `centred` and `squares` are arbitrary if not requested."""
        ...

    def kept_mass(
        self, z: Block, rows: RowInputs, peak: PerRow, offset: PerRow
    ) -> tuple[PerRow, PerRow]:
        """(kept, dropped): sums of exp(s - peak) where s - peak >= offset, and elsewhere."""
        ...

    def gradient(self, z: Block, rows: RowInputs, scalars: RowScalars, out: Block) -> None:
        """Write d loss / d z to `out`, which may be z, rounded once to out's dtype."""
        ...


def scaled(z: Block, inv_temperature: PerRow, softcap: float | None) -> Block:
    """s, in fresh memory."""
    if softcap is None:
        return z * inv_temperature[:, None]
    return (z / softcap).tanh_().mul_((softcap * inv_temperature)[:, None])


def _blocks(z: Block) -> Iterator[slice]:
    """Rows in groups whose temporaries stay in cache on a CPU and stay small on a GPU."""
    elements = 1 << (18 if z.device.type == "cpu" else 24)
    step = max(1, elements // max(1, z.shape[1]))
    for start in range(0, z.shape[0], step):
        yield slice(start, min(start + step, z.shape[0]))


class TorchRows:
    """Row kernels in plain torch."""

    name = "chunked"

    def statistics(self, z: Block, rows: RowInputs, *, entropy: bool, squares: bool) -> Partials:
        if z.shape[1] == 0:
            return Partials.of_nothing(z)
        out = Partials(*(z.new_zeros(z.shape[0]) for _ in Partials._fields))
        for block in _blocks(z):
            s = scaled(z[block], rows.inv_temperature[block], rows.softcap)
            peak, argmax = s.max(dim=1)
            out.peak[block] = peak
            out.target[block] = _pick(s, rows.targets[block])
            # a logit of -inf adds 0 to the entropy, not 0 * inf
            e = s.sub_(peak[:, None]).clamp_min_(-1e4).exp()
            if squares:
                out.squares[block] = torch.linalg.vecdot(e, e)
            e.scatter_(1, argmax[:, None], 0.0)
            out.rest[block] = e.sum(dim=1)
            if entropy:
                out.centred[block] = torch.linalg.vecdot(e, s)
        return out

    def kept_mass(
        self, z: Block, rows: RowInputs, peak: PerRow, offset: PerRow
    ) -> tuple[PerRow, PerRow]:
        kept, dropped = torch.zeros_like(peak), torch.zeros_like(peak)
        for block in _blocks(z):
            s = scaled(z[block], rows.inv_temperature[block], rows.softcap)
            s.sub_(peak[block, None])
            low = s < offset[block, None]
            s.exp_()
            kept[block] = s.masked_fill(low, 0.0).sum(dim=1)
            dropped[block] = s.masked_fill_(~low, 0.0).sum(dim=1)
        return kept, dropped

    def gradient(self, z: Block, rows: RowInputs, scalars: RowScalars, out: Block) -> None:
        for block in _blocks(z) if z.shape[1] else ():
            row = scalars.at(block)
            s = scaled(z[block], rows.inv_temperature[block], rows.softcap)
            slope = None
            if rows.softcap is not None:
                capped = s / (rows.softcap * rows.inv_temperature[block, None])
                slope = 1 - capped.square_()
            s.sub_(row.peak[:, None])
            factor = row.a[:, None]
            if row.c is not None and row.d is not None and row.offset is not None:
                kept = s >= row.offset[:, None]
                factor = factor + torch.where(kept, row.c[:, None], row.d[:, None])
            s.sub_(row.log_z[:, None]).clamp_min_(-1e4)
            if row.b is not None:
                factor = torch.addcmul(factor, row.b[:, None], s)
            dz = s.exp_().mul_(factor)
            targets, w = rows.targets[block, None], z.shape[1]
            inside = (targets >= 0) & (targets < w)
            column = targets.clamp(0, w - 1)
            dz.scatter_(1, column, row.at_target[:, None].where(inside, dz.gather(1, column)))
            dz.mul_(rows.inv_temperature[block, None])
            out[block] = dz if slope is None else dz.mul_(slope)


def _pick(s: Block, targets: Int[Tensor, " c"]) -> PerRow:
    """s of the target, -inf where the target is not in the block."""
    width = s.shape[1]
    inside = (targets >= 0) & (targets < width)
    picked = s.gather(1, targets.clamp(0, width - 1)[:, None])[:, 0]
    return picked.where(inside, -torch.inf)
