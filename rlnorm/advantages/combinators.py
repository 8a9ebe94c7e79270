"""Building blocks of estimators: per component, sum, whitening, mixture."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.types import Advantages, GroupIndex


def per_component(
    estimator: Callable[..., Advantages],
    rewards: Float[Tensor, "n r"],
    group_index: GroupIndex,
    **options: Any,
) -> Float[Tensor, "n r"]:
    """The same estimator applied to each reward column; NaN where the reward is NaN."""
    columns = []
    for column in rewards.double().unbind(dim=1):
        missing = column.isnan()
        if missing.all():
            columns.append(column)
            continue
        values = estimator(column, group_index, **options).values
        columns.append(values.where(~missing, torch.nan))
    return torch.stack(columns, dim=1)


def weighted_sum(parts: Float[Tensor, "n r"], weights: Sequence[float]) -> Float[Tensor, " n"]:
    """Weighted sum of the parts that are not NaN; NaN for a row without any."""
    total = torch.zeros(parts.shape[0], dtype=parts.dtype, device=parts.device)
    for part, weight in zip(parts.unbind(dim=1), weights, strict=True):
        total = total + weight * part.nan_to_num(0.0)
    return total.where(~parts.isnan().all(dim=1), torch.nan)


def whiten(
    values: Float[Tensor, " n"],
    weights: Float[Tensor, " n"] | None = None,
    *,
    eps: float,
    ddof: int = 1,
    centre: bool = True,
    eps_inside: bool = False,
    count_eps: float = 0.0,
) -> Float[Tensor, " n"]:
    """(value - mean) / (std + eps) over everything that is not NaN.

    weights: how often each value counts, such as rollout lengths for statistics over tokens.
    centre: False leaves the mean in, for values known to average to 0. eps_inside: divide by
    sqrt(var + eps) instead. count_eps: added to the count below each sum (verl: 1e-8).
    """
    present = ~values.isnan()
    weight = (torch.ones_like(values) if weights is None else weights.to(values)).where(present, 0)
    count = weight.sum()
    if present.any():
        # relative to the smallest value, equal values centre to exactly 0
        lowest = values[present].min() if count_eps == 0.0 else torch.zeros_like(count)
        above = values - lowest
        mean = (weight * above.nan_to_num(0.0)).sum() / (count + count_eps).clamp(min=1e-300)
        centred = above - mean
        squares = (weight * centred.nan_to_num(0.0).square()).sum()
        bessel = count / (count - ddof) if count > ddof else torch.zeros_like(count)
        variance = squares / (count + count_eps).clamp(min=1e-300) * bessel
        scale = (variance + eps).sqrt() if eps_inside else variance.sqrt() + eps
        return (centred if centre else values) / scale.where(scale > 0, 1.0)
    return values


def mixed(
    first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"], *, alpha: float, beta: float
) -> Float[Tensor, "*shape"]:
    """alpha * first + beta * second."""
    return alpha * first + beta * second
