"""The prefix tree of a microbatch, with which shared prefixes are computed only once.

The G rollouts of a prompt repeat it G times, and often also the first words of their completions.
Under causal attention a hidden state depends only on the tokens up to it, so each distinct prefix
needs one pass through the model. In the tree of a microbatch a node is a distinct prefix, and the
tokens of a rollout are a path. Losses are still per token of a rollout; gradients of paths that
share a node are summed.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from rlnorm.types import TokenBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefixTree:
    """The m nodes of t packed tokens. Example: 578 and 579 have the nodes 5, 57, 578 and 579."""

    node: Int[Tensor, " t"]
    """The node of each token."""
    token: Int[Tensor, " m"]
    """The token that represents each node, ascending; a node's parent comes before it."""

    @classmethod
    def of(cls, batch: TokenBatch) -> "PrefixTree":
        """The tree of a microbatch, on its device; O(n * longest) small integers on the CPU."""
        token_ids, row, column = (
            x.cpu() for x in (batch.token_ids, batch.rollout_index, batch.positions)
        )
        starts = batch.cu_seqlens[:-1].cpu()
        n, longest = len(starts), int(batch.cu_seqlens.diff().max())
        grid = torch.full((n, longest), -1, dtype=torch.int32)
        grid[row, column] = token_ids.to(torch.int32)
        # sorting complete rows puts rollouts with a common prefix next to each other
        keys = [r.tobytes() for r in grid.numpy().astype(">i4")]
        order = torch.tensor(sorted(range(n), key=keys.__getitem__))
        sorted_grid = grid[order]
        shared = (sorted_grid[1:] == sorted_grid[:-1]).cumprod(1, dtype=torch.int8).bool()
        # per position: the last rollout in sorted order that differs from its predecessor up to it
        walker = torch.arange(n)[:, None].repeat(1, longest)
        walker[1:].masked_fill_(shared, 0)
        walker = walker.cummax(0).values
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(n))
        stands_for = starts[order[walker[rank[row], column]]] + column
        first = torch.zeros(len(token_ids), dtype=torch.bool).index_fill_(0, stands_for, True)
        node = (first.cumsum(0) - 1)[stands_for]
        device = batch.token_ids.device
        return cls(node=node.to(device), token=first.nonzero()[:, 0].to(device))
