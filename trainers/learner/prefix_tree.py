"""Tokens that share their whole past share their computation.

The G rollouts of a prompt repeat it G times, and often the first words of their completions too.
Under causal attention a hidden state depends on nothing but the tokens up to it, so each distinct
prefix needs one pass through the model. The rollouts of a microbatch are read as a tree: a node is
a distinct prefix, the tokens of a rollout are a path. Losses stay per token of a rollout; their
gradients add up where paths meet.
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
    """The node at which each token ends."""
    token: Int[Tensor, " m"]
    """The token that stands for each node, ascending; a node's parent comes before."""

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
        # any total order of whole rows puts rollouts with a common past next to each other
        keys = [r.tobytes() for r in grid.numpy().astype(">i4")]
        order = torch.tensor(sorted(range(n), key=keys.__getitem__))
        sorted_grid = grid[order]
        shared = (sorted_grid[1:] == sorted_grid[:-1]).cumprod(1, dtype=torch.int8).bool()
        # in sorted order, the last rollout that left its predecessor's path before this position
        walker = torch.arange(n)[:, None].repeat(1, longest)
        walker[1:].masked_fill_(shared, 0)
        walker = walker.cummax(0).values
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(n))
        stands_for = starts[order[walker[rank[row], column]]] + column
        first = torch.zeros(len(token_ids), dtype=torch.bool).index_fill_(0, stands_for, True)
        node = (first.cumsum(0) - 1)[stands_for]
        device = batch.token_ids.device
        return cls(node=node.to(device), token=first.nonzero()[:, 0].to(device))
