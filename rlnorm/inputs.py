"""Shared by all estimators: checked rewards, their weighted sum, which rollouts train."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.groups import Groups, group_sum, make_groups
from rlnorm.types import Advantages, GroupIndex, Rewards

# beyond this a variance overflows float64, and results would be inf or NaN
LARGEST = 1e100

Missing = Literal["drop", "skip"]


def from_matrix(
    matrix: Float[Tensor, "prompts size"] | Float[Tensor, "prompts size r"],
) -> tuple[Rewards, Int[Tensor, " n"]]:
    """Rewards [n] or [n, r] and group_index [n] of a matrix [prompts, G] or [prompts, G, r].

    A row holds the G rollouts of one prompt. `values.reshape(prompts, G)` undoes it afterwards.
    Raises ValueError for another shape.
    """
    if matrix.dim() not in (2, 3) or 0 in matrix.shape:
        raise ValueError(
            f"from_matrix: shape {tuple(matrix.shape)}: needs [prompts, G] or [prompts, G, rewards]"
        )
    prompts, size = matrix.shape[:2]
    groups = torch.arange(prompts, device=matrix.device).repeat_interleave(size)
    return matrix.flatten(0, 1), groups


def given_groups(where: str, group_index: GroupIndex) -> Int[Tensor, " n"]:
    """group_index. Raises ValueError naming both ways to give it where it is None."""
    if group_index is None:
        raise ValueError(
            f"{where}: group_index is None: pass the group of each rollout, [n], or turn a "
            "prompts x G matrix into both with rlnorm.advantages.from_matrix(matrix)"
        )
    return group_index


def check_groups(where: str, group_index: GroupIndex, n: int) -> Groups:
    """The groups of n rollouts. Raises ValueError where they are not given or not n integers."""
    index = given_groups(where, group_index)
    check_rows(where, "group_index", index, n)
    if index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"{where}: group_index is {index.dtype}, needs integers")
    return make_groups(index)


def check_rewards(
    where: str, rewards: Rewards, group_index: GroupIndex
) -> tuple[Float[Tensor, "n r"], Groups]:
    """Rewards in float64, one column where they are [n], and their groups.

    Raises ValueError for a wrong shape, an empty batch, an infinite reward, or no reward at all.
    """
    given_groups(where, group_index)
    table = rewards[:, None] if rewards.dim() == 1 else rewards
    check_table(where, "rewards", table)
    return table.double(), check_groups(where, group_index, table.shape[0])


def check_table(where: str, name: str, table: Tensor) -> None:
    """A two-dimensional table of finite or missing numbers, at least one of them finite."""
    if table.dim() != 2 or 0 in table.shape:
        raise ValueError(
            f"{where}: {name} has shape {tuple(table.shape)}, needs [rollouts, columns], "
            "at least one of each; rlnorm.advantages.from_matrix takes prompts x G"
        )
    # in float64, since LARGEST is infinite in float32
    too_large = table.double().abs() > LARGEST
    if too_large.any():
        row, column = too_large.nonzero()[0].tolist()
        raise ValueError(
            f"{where}: {name}[{row}, {column}] = {table[row, column].item()}: needs a finite "
            f"number of at most {LARGEST:g}, or NaN for a missing one"
        )
    if table.isnan().all():
        raise ValueError(f"{where}: {name} are all NaN: needs at least one that is not masked")


def check_rows(where: str, name: str, column: Tensor, n: int) -> None:
    """A vector with one entry for each of the n rollouts."""
    if tuple(column.shape) != (n,):
        raise ValueError(
            f"{where}: {name} has shape {tuple(column.shape)}, needs ({n},), one for each rollout"
        )


def check_tokens(where: str, n: int, rollout_index: Tensor, **columns: Tensor) -> None:
    """Token columns of one length whose rollout_index stays below n."""
    t = rollout_index.shape[0]
    for name, column in columns.items():
        if tuple(column.shape) != (t,):
            raise ValueError(
                f"{where}: {name} has shape {tuple(column.shape)}, needs ({t},) as "
                "rollout_index has"
            )
    if t == 0:
        raise ValueError(f"{where}: rollout_index is empty, needs at least one trained token")
    low, high = int(rollout_index.min()), int(rollout_index.max())
    if low < 0 or high >= n:
        raise ValueError(
            f"{where}: rollout_index has values in [{low}, {high}], needs 0 to {n - 1} for the "
            f"{n} rollouts in rewards"
        )


def weighted_columns(
    where: str, rewards: Rewards, group_index: GroupIndex, weights: Sequence[float] | None
) -> tuple[Float[Tensor, "n k"], Groups, list[float]]:
    """Checked rewards, their groups, and a weight for each column, 1 where none are given.

    A column of weight 0 is left out, so that it changes nothing, whatever it holds. Raises
    ValueError for bad rewards, weights that are not finite, too few or too many, or all 0.
    """
    table, groups = check_rewards(where, rewards, group_index)
    columns = table.shape[1]
    given = [1.0] * columns if weights is None else [float(w) for w in weights]
    if len(given) != columns:
        raise ValueError(f"{where}: {len(given)} weights for {columns} reward columns")
    if not all(abs(w) < LARGEST for w in given):
        raise ValueError(f"{where}: weights = {given}: each needs to be finite")
    kept = [i for i, w in enumerate(given) if w != 0]
    if not kept:
        raise ValueError(f"{where}: weights = {given}: needs one that is not 0")
    check_table(where, "rewards", table[:, kept])
    return table[:, kept], groups, [given[i] for i in kept]


def scalar_rewards(
    where: str,
    rewards: Rewards,
    group_index: GroupIndex,
    weights: Sequence[float] | None,
    missing: Missing,
) -> tuple[Float[Tensor, " n"], Groups]:
    """Checked rewards as one weighted sum per rollout.

    missing: the result for a rollout without a column of non-zero weight. "drop": NaN, so it is
    left out; "skip": the sum of the others (TRL), which is to count the missing one as 0.
    """
    table, groups, given = weighted_columns(where, rewards, group_index, weights)
    total = torch.zeros(table.shape[0], dtype=torch.float64, device=table.device)
    # column by column: a matrix product may round equal rows differently
    for column, weight in zip(table.T, given, strict=True):
        total = total + weight * (column.nan_to_num(0.0) if missing == "skip" else column)
    if missing == "skip":
        total = total.where(~table.isnan().all(dim=1), torch.nan)
    if total.isnan().all():
        raise ValueError(f"{where}: rewards: every rollout lacks one: needs a complete row")
    return total, groups


def zero_missing(advantages: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Advantage 0 where the reward was missing."""
    return advantages.where(~advantages.isnan(), 0.0)


def group_relative(values: Float[Tensor, " n"], rewards: Rewards, groups: Groups) -> Advantages:
    """Advantages of an estimator that compares the rollouts of a group.

    A rollout without any reward gets 0 and does not train, nor does one alone in its group at 0.
    """
    present = ~rewards.reshape(len(values), -1).isnan().all(dim=1)
    values = values.where(present, 0.0)
    alone = group_sum(present.double(), groups)[groups.index] < 2
    return Advantages(values, present & ~(alone & (values == 0)))
