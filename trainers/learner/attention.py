"""Attention over the prefix tree of a microbatch, for any Hugging Face causal LM, without a mask.

The linear layers of a model see the [1, m] nodes of the tree, without padding or repeated prefixes.
Only the attention product is computed per rollout: with torch's variable-length kernel on a GPU in
16 bits, and elsewhere on a [n, longest] view whose padded cells are never read.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from rlnorm.errors import InputError
from rlnorm.trainers.learner.packing import take_rollouts, token_index
from rlnorm.trainers.learner.prefix_tree import PrefixTree
from rlnorm.types import TokenBatch

NAME = "rlnorm_varlen"


@dataclass(frozen=True, kw_only=True, slots=True)
class VarlenLayout:
    """Maps the nodes of a prefix tree to the rollouts that the attention runs over.

    These are the w rollouts, with s tokens in total, that are the first to contain some node;
    rollouts that only repeat others are left out.
    """

    tree: PrefixTree
    cu_seqlens: Int32[Tensor, " starts"]
    """[w + 1]: rollout starts, then s."""
    longest: int
    node: Int[Tensor, " s"]
    """The node of each token."""
    cells: Int[Tensor, " s"]
    """Row * longest + position of each token, in the padded view."""
    token: Int[Tensor, " m"]
    """Which of the s tokens represents each node."""

    @classmethod
    def of(cls, batch: TokenBatch) -> "VarlenLayout":
        """The layout of a packed batch."""
        tree = PrefixTree.of(batch)
        walked = batch.rollout_index[tree.token].unique()
        tokens = token_index(batch, walked)
        part = take_rollouts(batch, walked)
        longest = int(part.cu_seqlens.diff().max())
        place = torch.empty_like(tree.node).index_copy_(
            0, tokens, torch.arange(len(tokens), device=tokens.device)
        )
        return cls(
            tree=tree,
            cu_seqlens=part.cu_seqlens.to(torch.int32),
            longest=longest,
            node=tree.node[tokens],
            cells=part.rollout_index * longest + part.positions,
            token=place[tree.token],
        )


def gather_rows(table: Float[Tensor, "m ..."], index: Int[Tensor, " k"]) -> Float[Tensor, "k ..."]:
    """Rows of the table at the index, which may contain a row several times.

    Uses an embedding, whose gradient sums repeated rows in parallel and in a fixed order.
    """
    flat = torch.nn.functional.embedding(index, table.reshape(len(table), -1))
    return flat.view(len(index), *table.shape[1:])


class _TakeOnce(torch.autograd.Function):
    """Rows at distinct indices: the gradient is a copy without sums."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = table.shape[0]
        return table.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.rows, *grad.shape[1:]).index_copy_(0, index, grad), None


def take_once(table: Float[Tensor, "k ..."], index: Int[Tensor, " m"]) -> Float[Tensor, "m ..."]:
    """Rows of the table at the index, which contains no row twice."""
    rows: Tensor = _TakeOnce.apply(table, index)  # type: ignore[no-untyped-call]  # torch
    return rows


def varlen_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "1 h m e"],
    key: Float[Tensor, "1 h_kv m e"],
    value: Float[Tensor, "1 h_kv m e"],
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    varlen: VarlenLayout,
    **_: object,
) -> tuple[Float[Tensor, "1 m h e"], None]:
    """Causal attention along each path of the tree."""
    if softcap is not None:
        raise InputError(
            f"model.path: attention softcap = {softcap}: models with soft-capped scores are not "
            "supported"
        )
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        return _varlen_kernel(query, key, value, scaling, sliding_window, varlen), None
    n, longest = len(varlen.cu_seqlens) - 1, varlen.longest
    # padding may point to any node, as only padding attends to it
    nodes = varlen.node.new_zeros(n * longest).index_copy_(0, varlen.cells, varlen.node)
    q, k, v = (
        gather_rows(x[0].transpose(0, 1), nodes)
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
    cells = out.transpose(1, 2).reshape(n * longest, *out.shape[1::2])
    return take_once(cells, varlen.cells[varlen.token])[None], None


def _varlen_kernel(
    query: Float[Tensor, "1 h m e"],
    key: Float[Tensor, "1 h_kv m e"],
    value: Float[Tensor, "1 h_kv m e"],
    scaling: float | None,
    sliding_window: int | None,
    varlen: VarlenLayout,
) -> Float[Tensor, "1 m h e"]:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (gather_rows(x[0].transpose(0, 1), varlen.node) for x in (query, key, value))
    window = (-1 if sliding_window is None else sliding_window - 1, 0)
    cu, longest = varlen.cu_seqlens, varlen.longest
    out = varlen_attn(
        q, k, v, cu, cu, longest, longest, scale=scaling, window_size=window, enable_gqa=True
    )
    return take_once(cast(Tensor, out), varlen.token)[None]  # a pair only with return_aux


AttentionInterface.register(NAME, varlen_attention)
# the layout replaces the mask, so no mask tensor is built
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
