"""Statistics of ragged groups in any order, vectorised, in float64.

NaN marks a missing value: it enters no count, mean, spread or median, and stays NaN in results
with one entry per row. Means are taken relative to the smallest value of a group, so that equal
values centre to exactly 0 whatever they are, and a common offset costs no digits.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Groups:
    """Which group owns each row, renumbered 0..count-1."""

    index: Int[Tensor, " n"]
    count: int


def make_groups(group_index: Int[Tensor, " n"]) -> Groups:
    """Renumber arbitrary group labels; rows of a group may be anywhere."""
    labels, index = torch.unique(group_index, return_inverse=True)
    return Groups(index, labels.numel())


def one_group(like: Float[Tensor, "n ..."]) -> Groups:
    """All rows in one group: batch statistics are group statistics of this."""
    return Groups(torch.zeros(like.shape[0], dtype=torch.long, device=like.device), 1)


def group_sum(values: Float[Tensor, "n ..."], groups: Groups) -> Float[Tensor, "g ..."]:
    """Sum of the values that are not NaN; 0 for a group without any."""
    present = values.nan_to_num(0.0, torch.inf, -torch.inf)
    keys, length, shape = _keys(values, groups)
    return torch.bincount(keys, present.double().reshape(-1), minlength=length).reshape(shape)


def group_count(values: Float[Tensor, "n ..."], groups: Groups) -> Float[Tensor, "g ..."]:
    """How many values are not NaN."""
    return group_sum((~values.isnan()).double(), groups)


def group_min(values: Float[Tensor, "n ..."], groups: Groups) -> Float[Tensor, "g ..."]:
    """Smallest value; +inf for a group without any."""
    keys, length, shape = _keys(values, groups)
    start = torch.full((length,), torch.inf, dtype=torch.float64, device=values.device)
    present = values.double().where(~values.isnan(), torch.inf).reshape(-1)
    return start.scatter_reduce_(0, keys, present, "amin").reshape(shape)


def group_max(values: Float[Tensor, "n ..."], groups: Groups) -> Float[Tensor, "g ..."]:
    """Largest value; -inf for a group without any."""
    return -group_min(-values, groups)


def group_mean(
    values: Float[Tensor, "n ..."], groups: Groups, *, weights: Float[Tensor, " n"] | None = None
) -> Float[Tensor, "g ..."]:
    """Mean (or weighted mean) of the values that are not NaN; NaN for a group without any."""
    lowest = group_min(values, groups)
    above = values.double() - lowest[groups.index]
    return lowest.where(lowest.isfinite(), torch.nan) + _mean_above(above, groups, weights)


def group_centred(
    values: Float[Tensor, "n ..."], groups: Groups, *, weights: Float[Tensor, " n"] | None = None
) -> Float[Tensor, "n ..."]:
    """Each value minus its group's mean: exactly 0 in a constant group and for a group of one."""
    lowest = group_min(values, groups)
    above = values.double() - lowest[groups.index]
    return above - _mean_above(above, groups, weights)[groups.index]


def group_std(
    values: Float[Tensor, "n ..."], groups: Groups, *, ddof: int
) -> Float[Tensor, "g ..."]:
    """Standard deviation with denominator n - ddof; 0 where that is not positive."""
    return _std_of_centred(group_centred(values, groups), groups, ddof)


def group_zscore(
    values: Float[Tensor, "n ..."], groups: Groups, *, eps: float, ddof: int
) -> Float[Tensor, "n ..."]:
    """(value - mean) / (std + eps); exactly 0 in a constant group even with eps 0."""
    centred = group_centred(values, groups)
    spread = _std_of_centred(centred, groups, ddof) + eps
    return centred / spread.where(spread > 0, 1.0)[groups.index]


def group_order(values: Float[Tensor, " n"], groups: Groups) -> Int[Tensor, " n"]:
    """Rows sorted by group, then by value, NaN last in each group; ties in row order."""
    by_value = torch.argsort(values, stable=True)
    return by_value[torch.argsort(groups.index[by_value], stable=True)]


def group_lower_median(values: Float[Tensor, " n"], groups: Groups) -> Float[Tensor, " g"]:
    """The lower of the two middle values when their number is even; NaN for an empty group."""
    order = group_order(values, groups)
    rows = torch.bincount(groups.index, minlength=groups.count)
    present = group_count(values, groups).long()
    middle = rows.cumsum(0) - rows + (present - 1).clamp(min=0).div(2, rounding_mode="floor")
    return values.double()[order][middle]


def _mean_above(above: Tensor, groups: Groups, weights: Tensor | None) -> Tensor:
    plain = group_sum(above, groups) / group_count(above, groups)
    if weights is None:
        return plain
    weight = _like(weights.double(), above).where(~above.isnan(), torch.nan)
    total = group_sum(weight, groups)
    # no weight at all: nothing distinguishes the rows, so they count alike
    return (group_sum(above * weight, groups) / total).where(total > 0, plain)


def _std_of_centred(centred: Tensor, groups: Groups, ddof: int) -> Tensor:
    freedom = group_count(centred, groups) - ddof
    squares = group_sum(centred.square(), groups)
    return (squares / freedom.clamp(min=1)).where(freedom > 0, 0.0).sqrt()


def _keys(values: Tensor, groups: Groups) -> tuple[Tensor, int, torch.Size]:
    tail = values.shape[1:]
    width = tail.numel()
    shape = torch.Size((groups.count, *tail))
    if width == 1:
        return groups.index, groups.count, shape
    columns = torch.arange(width, device=values.device)
    keys = (groups.index[:, None] * width + columns).reshape(-1)
    return keys, groups.count * width, shape


def _like(rows: Tensor, values: Tensor) -> Tensor:
    return rows.reshape(-1, *([1] * (values.dim() - 1))).expand_as(values)
