"""Statistics of a vocabulary split over ranks: each holds some columns, all get the same results.

Per chunk of tokens the ranks exchange five floats per token, two more with a proxy; the logits
stay where they are. Deadlines are those of the process group.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from rlnorm.kernels.rows import Partials
from rlnorm.kernels.summary import merge


def merge_over_ranks(partials: Partials, group: Any) -> Partials:
    """The partials of the full vocabulary, merged in rank order on every rank."""
    gathered = _gather(torch.stack(list(partials)), group)
    return merge([Partials(*part.unbind()) for part in gathered])


def sum_over_ranks(*values: Float[Tensor, " c"], group: Any) -> tuple[Tensor, ...]:
    """Sums in rank order, so results are bitwise equal on every rank."""
    total, *others = _gather(torch.stack(values), group)
    for other in others:
        total = total + other
    return tuple(total.unbind())


def _gather(x: Float[Tensor, "k c"], group: Any) -> list[Tensor]:
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x.contiguous(), group=group)
    return parts


def world_size(group: Any) -> int:
    """Ranks of the group; raises ValueError if torch.distributed is not initialised."""
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError("tp_group: torch.distributed is not initialised in this process")
    return dist.get_world_size(group)


def add_over_ranks(total: Float[Tensor, "t d"], group: Any) -> None:
    """In-place sum of the hidden gradients, in the dtype they were summed in locally."""
    dist.all_reduce(total, group=group)
