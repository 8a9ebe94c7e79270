"""Changes to the reward table before any statistic: conditioned rewards and DAPO's soft overlong.

Paper: arXiv:2601.05242 (conditioned), arXiv:2503.14476 (overlong)
Formula: r_easy = r_easy if r_hard >= threshold else 0;
    r -= clip((len - (max - cache)) / cache, 0, 1)
When: an easy reward must not replace a hard one; answers grow to the token limit
Cost: none

DAPO's paper has no factor: its penalty is -1 at max_length and beyond. verl multiplies by
penalty_factor and has no bound beyond max_length.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.inputs import check_rows
from rlnorm.options import Count, Index, Positive, checked


@checked()
def conditioned(
    rewards: Float[Tensor, "n r"], *, easy: Index, hard: Index, threshold: float
) -> Float[Tensor, "n r"]:
    """Column `easy` is 0 where column `hard` is below the threshold, NaN where `hard` is NaN.

    Raises ValueError for a column that is not there.
    """
    for name, column in (("easy", easy), ("hard", hard)):
        if not 0 <= column < rewards.shape[1]:
            raise ValueError(
                f"conditioned: {name} = {column}, needs a column in [0, {rewards.shape[1] - 1}]"
            )
    condition = rewards[:, hard]
    shaped = rewards.clone()
    shaped[:, easy] = rewards[:, easy].where(condition >= threshold, 0.0)
    shaped[:, easy] = shaped[:, easy].where(~condition.isnan(), torch.nan)
    return shaped


def _cache_within(max_length: int, cache: int) -> str:
    within = 0 < cache <= max_length
    return "" if within else f"cache = {cache}, needs a value in [1, max_length {max_length}]"


@checked(_cache_within)
def overlong(
    rewards: Float[Tensor, "n r"],
    lengths: Int[Tensor, " n"],
    *,
    max_length: Count,
    cache: int,
    penalty_factor: Positive | None = None,
    column: Index = 0,
) -> Float[Tensor, "n r"]:
    """Adds overlong_penalty to one reward column. Raises ValueError for a column not there."""
    check_rows("overlong", "lengths", lengths, rewards.shape[0])
    if not 0 <= column < rewards.shape[1]:
        raise ValueError(f"overlong: column = {column}, needs one in [0, {rewards.shape[1] - 1}]")
    shaped = rewards.double()
    shaped = shaped.clone() if shaped is rewards else shaped
    shaped[:, column] += overlong_penalty(
        lengths, max_length=max_length, cache=cache, penalty_factor=penalty_factor
    )
    return shaped


@checked(_cache_within)
def overlong_penalty(
    lengths: Int[Tensor, " n"],
    *,
    max_length: Count,
    cache: int,
    penalty_factor: Positive | None = None,
) -> Float[Tensor, " n"]:
    """0 up to max_length - cache, then linear in the length.

    penalty_factor: None is the paper's form, -1 at max_length and beyond; a number is verl's,
    -penalty_factor at max_length and falling on. Raises ValueError unless 0 < cache <= max_length.
    """
    excess = ((lengths.double() - (max_length - cache)) / cache).clamp(min=0.0)
    return -excess.clamp(max=1.0) if penalty_factor is None else -penalty_factor * excess
