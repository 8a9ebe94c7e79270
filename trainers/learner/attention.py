"""Attention over rollouts laid end to end, for any Hugging Face causal LM, without a mask tensor.

The linear layers of a model see the packed [1, t] tokens, so padding costs them nothing. Only the
attention product is taken per rollout: by torch's variable-length kernel on a GPU in 16 bits, and
elsewhere on a [n, longest] view whose few padded cells are never read back.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "rlnorm_varlen"


@dataclass(frozen=True, kw_only=True, slots=True)
class VarlenLayout:
    """Where each packed token sits in the padded [n, longest] view."""

    cu_seqlens: Tensor
    """[n + 1] int32: rollout starts, then t."""
    longest: int
    cell: Tensor
    """[t] int64: row * longest + position."""

    @classmethod
    def of(cls, cu_seqlens: Tensor, positions: Tensor, rollout_index: Tensor) -> "VarlenLayout":
        """The layout of a packed batch."""
        longest = int(cu_seqlens.diff().max())
        cell = rollout_index * longest + positions
        return cls(cu_seqlens=cu_seqlens.to(torch.int32), longest=longest, cell=cell)


class _Pad(torch.autograd.Function):
    """[t, ...] -> [n * longest, ...]; its gradient is the inverse gather: nothing is added up."""

    @staticmethod
    def forward(ctx, packed: Tensor, cell: Tensor, cells: int) -> Tensor:
        ctx.save_for_backward(cell)
        return packed.new_zeros(cells, *packed.shape[1:]).index_copy_(0, cell, packed)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        (cell,) = ctx.saved_tensors
        return grad.index_select(0, cell), None, None


class _Unpad(torch.autograd.Function):
    """The inverse of _Pad."""

    @staticmethod
    def forward(ctx, padded: Tensor, cell: Tensor) -> Tensor:
        ctx.save_for_backward(cell)
        ctx.cells = padded.shape[0]
        return padded.index_select(0, cell)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (cell,) = ctx.saved_tensors
        return grad.new_zeros(ctx.cells, *grad.shape[1:]).index_copy_(0, cell, grad), None


def varlen_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    varlen: VarlenLayout,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention inside each rollout; query [1, h, t, e], key and value [1, h_kv, t, e]."""
    if softcap is not None:
        raise ValueError(
            f"attention softcap = {softcap}: models with soft-capped scores are unsupported"
        )
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        return _varlen_kernel(query, key, value, scaling, sliding_window, varlen), None
    n, longest = len(varlen.cu_seqlens) - 1, varlen.longest
    q, k, v = (
        _Pad.apply(x[0].transpose(0, 1), varlen.cell, n * longest)
        .view(n, longest, x.shape[1], x.shape[3])
        .transpose(1, 2)
        for x in (query, key, value)
    )
    window = None
    if sliding_window is not None and sliding_window < longest:
        age = torch.arange(longest, device=query.device)
        age = age[:, None] - age
        window = (age >= 0) & (age < sliding_window)
    out = F.scaled_dot_product_attention(
        q, k, v, attn_mask=window, is_causal=window is None, scale=scaling, enable_gqa=True
    )
    packed = _Unpad.apply(out.transpose(1, 2).reshape(n * longest, *out.shape[1::2]), varlen.cell)
    return packed[None], None


def _varlen_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    sliding_window: int | None,
    varlen: VarlenLayout,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    window = (-1 if sliding_window is None else sliding_window - 1, 0)
    cu, longest = varlen.cu_seqlens, varlen.longest
    out = varlen_attn(
        q, k, v, cu, cu, longest, longest, scale=scaling, window_size=window, enable_gqa=True
    )
    return out[None]


AttentionInterface.register(NAME, varlen_attention)
# the layout carries all there is to know, so no mask tensor is ever built
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
