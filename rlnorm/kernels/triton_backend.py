"""Row kernels for Ampere and Hopper; the products stay with cuBLAS (float32 results).

One program owns a row (statistics, kept mass) or a piece of a row (gradient), so nothing is
summed atomically and results are bitwise equal from run to run. Offsets are 64-bit. With
TRITON_INTERPRET=1 set before the first import the same kernels run on a CPU, slowly.
"""

import inspect
import os
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl

from rlnorm.kernels.rows import Block, Partials, PerRow, RowInputs, RowScalars

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
MAX_BLOCK = 4096


def _kernel(function: Callable[..., Any]) -> Any:
    """triton.jit of the function itself: a run-time type checker's wrapper cannot be compiled."""
    return triton.jit(inspect.unwrap(function))


@_kernel
def _scaled(z, inv_temperature, cap, CAP: tl.constexpr):  # type: ignore[no-untyped-def]  # Triton gives the types
    if CAP:
        e = tl.exp(-2.0 * tl.abs(z / cap))
        t = (1.0 - e) / (1.0 + e)
        z = cap * tl.where(z < 0, -t, t)
    return z * inv_temperature


@_kernel
def statistics_kernel(  # type: ignore[no-untyped-def]  # Triton gives the types
    z, targets, inv_temperature, out, stride, w, cap,
    CAP: tl.constexpr, ENTROPY: tl.constexpr, SQUARES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One read of a row; the blocks are merged as summary.merge merges shards."""
    row = tl.program_id(0).to(tl.int64)
    scale = tl.load(inv_temperature + row)
    peak = tl.full((), float("-inf"), tl.float32)
    rest = tl.full((), 0.0, tl.float32)
    centred = tl.full((), 0.0, tl.float32)
    squares = tl.full((), 0.0, tl.float32)
    for start in range(0, w, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        inside = cols < w
        s = _scaled(tl.load(z + row * stride + cols, mask=inside, other=0.0), scale, cap, CAP)
        s = tl.where(inside, s, float("-inf"))
        top = tl.max(s, axis=0)
        # a block of nothing but -inf must add nothing, not NaN
        x = tl.maximum(s - tl.where(top == float("-inf"), 0.0, top), -87.0)
        e = tl.where(inside, tl.exp(x), 0.0)
        ties = tl.sum((s == top).to(tl.float32), axis=0)
        # the largest element is left out, further copies of it are not
        block_rest = tl.sum(tl.where(s == top, 0.0, e), axis=0) + (ties - 1.0)
        best = tl.maximum(peak, top)
        level = tl.where(best == float("-inf"), 0.0, best)
        down_old, down_new = tl.maximum(peak - level, -87.0), tl.maximum(top - level, -87.0)
        old, new = tl.where(peak == float("-inf"), 0.0, tl.exp(down_old)), tl.exp(down_new)
        if ENTROPY:
            block_centred = tl.sum(e * x, axis=0)
            centred = old * (centred + down_old * (1.0 + rest)) + new * (
                block_centred + down_new * (1.0 + block_rest)
            )
        if SQUARES:
            squares = old * old * squares + new * new * tl.sum(e * e, axis=0)
        rest = old * rest + new * block_rest + tl.where(peak >= top, new, old)
        peak = best
    target = tl.load(targets + row)
    held = (target >= 0) & (target < w)
    picked = tl.load(z + row * stride + tl.where(held, target, 0))
    picked = tl.where(held, _scaled(picked, scale, cap, CAP), float("-inf"))
    tl.store(out + row * 5, peak)
    tl.store(out + row * 5 + 1, rest)
    tl.store(out + row * 5 + 2, centred)
    tl.store(out + row * 5 + 3, squares)
    tl.store(out + row * 5 + 4, picked)


@_kernel
def kept_mass_kernel(  # type: ignore[no-untyped-def]  # Triton gives the types
    z, inv_temperature, peaks, offsets, out, stride, w, cap,
    CAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The second read, once the row's peak over all shards is known."""
    row = tl.program_id(0).to(tl.int64)
    scale, peak = tl.load(inv_temperature + row), tl.load(peaks + row)
    offset = tl.load(offsets + row)
    kept = tl.full((), 0.0, tl.float32)
    dropped = tl.full((), 0.0, tl.float32)
    for start in range(0, w, BLOCK):
        cols = start + tl.arange(0, BLOCK)
        inside = cols < w
        s = _scaled(tl.load(z + row * stride + cols, mask=inside, other=0.0), scale, cap, CAP)
        x = s - peak
        e = tl.where(inside, tl.exp(tl.minimum(tl.maximum(x, -87.0), 0.0)), 0.0)
        kept += tl.sum(tl.where(x >= offset, e, 0.0), axis=0)
        dropped += tl.sum(tl.where(x >= offset, 0.0, e), axis=0)
    tl.store(out + row * 2, kept)
    tl.store(out + row * 2 + 1, dropped)


@_kernel
def gradient_kernel(  # type: ignore[no-untyped-def]  # Triton gives the types
    z, targets, inv_temperature, peaks, log_zs, a, at_target, b, c, d, offsets, out, stride,
    out_stride, w, pieces, cap, CAP: tl.constexpr, ENTROPY: tl.constexpr, PROXY: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """d loss / d z of one piece of a row, in place where out is z; rounded once."""
    program = tl.program_id(0).to(tl.int64)
    row, piece = program // pieces, program % pieces
    cols = piece * BLOCK + tl.arange(0, BLOCK)
    inside = cols < w
    scale = tl.load(inv_temperature + row)
    raw = tl.load(z + row * stride + cols, mask=inside, other=0.0)
    x = _scaled(raw, scale, cap, CAP) - tl.load(peaks + row)
    # recomputed logits may exceed the peak by rounding, padding columns by anything
    u = tl.minimum(tl.maximum(x - tl.load(log_zs + row), -87.0), 0.0)
    factor = tl.zeros((BLOCK,), tl.float32) + tl.load(a + row)
    if ENTROPY:
        factor += tl.load(b + row) * u
    if PROXY:
        factor += tl.where(x >= tl.load(offsets + row), tl.load(c + row), tl.load(d + row))
    is_target = cols == tl.load(targets + row)
    dz = tl.where(is_target, tl.load(at_target + row), tl.exp(u) * factor) * scale
    if CAP:
        e = tl.exp(-2.0 * tl.abs(raw / cap))
        t = (1.0 - e) / (1.0 + e)
        dz *= 1.0 - t * t
    tl.store(out + row * out_stride + cols, dz.to(out.dtype.element_ty), mask=inside)


def _block(w: int) -> int:
    return int(min(MAX_BLOCK, max(16, triton.next_power_of_2(w))))


class TritonRows:
    """Row kernels over float32 logits with unit column stride."""

    name = "triton"

    def statistics(self, z: Block, rows: RowInputs, *, entropy: bool, squares: bool) -> Partials:
        c, w = z.shape
        if w == 0:
            return Partials.of_nothing(z)
        out = z.new_empty((c, 5))
        _launch(
            statistics_kernel, c, z.device, z, rows.targets.contiguous(),
            rows.inv_temperature.contiguous(), out, z.stride(0), w, rows.softcap or 1.0,
            CAP=rows.softcap is not None, ENTROPY=entropy, SQUARES=squares, BLOCK=_block(w),
        )  # fmt: skip
        return Partials(*out.unbind(dim=1))

    def kept_mass(
        self, z: Block, rows: RowInputs, peak: PerRow, offset: PerRow
    ) -> tuple[PerRow, PerRow]:
        c, w = z.shape
        out = z.new_zeros((c, 2))
        _launch(
            kept_mass_kernel, c, z.device, z, rows.inv_temperature.contiguous(),
            peak.contiguous(), offset.contiguous(), out, z.stride(0), w, rows.softcap or 1.0,
            CAP=rows.softcap is not None, BLOCK=_block(w),
        )  # fmt: skip
        return out[:, 0], out[:, 1]

    def gradient(self, z: Block, rows: RowInputs, scalars: RowScalars, out: Block) -> None:
        count, w = z.shape
        block = _block(w)
        pieces = triton.cdiv(w, block)
        # a pointer that is never read stands in for a missing argument
        held = [rows.inv_temperature if x is None else x for x in scalars]
        row_scalars = (x.contiguous() for x in held)
        _launch(
            gradient_kernel, count * pieces, z.device, z, rows.targets.contiguous(),
            rows.inv_temperature.contiguous(), *row_scalars, out, z.stride(0), out.stride(0), w,
            pieces, rows.softcap or 1.0, CAP=rows.softcap is not None,
            ENTROPY=scalars.b is not None, PROXY=scalars.c is not None, BLOCK=block,
        )  # fmt: skip


def _launch(kernel: Any, programs: int, device: torch.device, *args: Any, **constants: Any) -> None:
    """Launch on the tensors' device, which need not be the current one."""
    if programs == 0:
        return
    warps = {} if INTERPRETED else {"num_warps": 8}
    if device.type == "cuda":
        with torch.cuda.device(device):
            kernel[(programs,)](*args, **constants, **warps)
    else:
        kernel[(programs,)](*args, **constants, **warps)
