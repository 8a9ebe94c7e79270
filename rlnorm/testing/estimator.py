"""Conformance tests for an advantage estimator, yours or one of ours.

    from rlnorm.testing import check_estimator
    check_estimator(my_estimator)

A failing check raises ConformanceError with a counter-example reduced to as few rollouts as
still fail.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rlnorm.advantages.run import as_advantages
from rlnorm.stages import Stage, data_of
from rlnorm.testing.bandit import GradientReport, bandit_gradient
from rlnorm.testing.batches import Batch, constant_batch, random_batch

RTOL = 1e-9


class ConformanceError(AssertionError):
    """A property does not hold; the message has the counter-example."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, and the gradient on the bandit."""

    passed: tuple[str, ...]
    gradient: GradientReport


@dataclass(frozen=True, slots=True)
class Traits:
    """What the estimator claims; see check_estimator."""

    coupling: Literal["group", "batch"] = "group"
    constant: Literal["zero", "any"] = "zero"
    singleton: Literal["zero", "any"] = "zero"
    shift: Literal["invariant", "any"] = "invariant"
    scale: Literal["invariant", "linear", "any"] = "any"
    gradient: Literal["unbiased", "ascent", "any"] = "ascent"
    low: float = -1.0
    high: float = 2.0
    columns: int = 1


def check_estimator(
    estimator: Callable[..., Any],
    *,
    coupling: Literal["group", "batch"] = "group",
    constant: Literal["zero", "any"] = "zero",
    singleton: Literal["zero", "any"] = "zero",
    shift: Literal["invariant", "any"] = "invariant",
    scale: Literal["invariant", "linear", "any"] = "any",
    gradient: Literal["unbiased", "ascent", "any"] = "ascent",
    low: float = -1.0,
    high: float = 2.0,
    columns: int = 1,
    **options: Any,
) -> Report:
    """Check a function of rewards [n, r], group_index [n], ... that returns a tensor or Advantages.

    coupling: "group" claims that a group's advantages depend on that group alone. constant,
    singleton: "zero" claims exactly 0 for equal rewards and for a group of one. shift, scale:
    the effect of adding to or multiplying all rewards. gradient: "ascent" claims that the expected
    gradient points up the true one on a bandit, "unbiased" that it is the true one. low, high:
    rewards it accepts. columns: how many reward columns to give. options go to the estimator.
    Raises ConformanceError for the first property that fails.
    """
    claims = (coupling, constant, singleton, shift, scale, gradient, low, high, columns)
    traits = Traits(*claims)

    def estimate(batch: Batch) -> list[Tensor]:
        return _by_rollout(estimator, batch, options)

    passed = []
    for name, check in CHECKS.items():
        for batch in _batches(traits):
            if check(estimate, batch, traits) is not None:
                _fail(estimator, name, check, estimate, batch, traits)
        passed.append(name)
    for name, trial in TRIALS.items():
        if message := trial(estimate, traits):
            raise ConformanceError(f"{_name(estimator)}: {name}\n  {message}")
        passed.append(name)
    return Report((*passed, "gradient"), _check_gradient(estimator, estimate, traits))


Estimate = Callable[[Batch], list[Tensor]]
Check = Callable[[Estimate, Batch, Traits], str | None]


def repeatable(estimate: Estimate, batch: Batch, traits: Traits) -> str | None:
    """The same rewards give the same advantages, all of them finite."""
    first = estimate(batch)
    if not all(row.isfinite().all() for row in first):
        return f"not finite: {_flat(first)}"
    return _compare(estimate(batch), first)


def permutation_equivariance(estimate: Estimate, batch: Batch, traits: Traits) -> str | None:
    """Reordering the rollouts reorders the advantages."""
    order = torch.arange(len(batch.lengths)).flip(0)
    full = estimate(batch)
    return _compare(estimate(batch.take(order)), [full[i] for i in order.tolist()])


def group_independence(estimate: Estimate, batch: Batch, traits: Traits) -> str | None:
    """A group gets the same advantages alone, or in any shard of complete groups."""
    if traits.coupling == "batch":
        return None
    full = estimate(batch)
    for label in sorted(set(batch.group_index.tolist())):
        rows = (batch.group_index == label).nonzero()[:, 0]
        if message := _compare(estimate(batch.take(rows)), [full[i] for i in rows.tolist()]):
            return f"group {label} alone: {message}"
    return None


def shift_behaviour(estimate: Estimate, batch: Batch, traits: Traits) -> str | None:
    """Adding a constant to every reward changes nothing."""
    if traits.shift == "any":
        return None
    moved = batch.with_rewards(lambda rewards: rewards + 4.0)
    return _compare(estimate(moved), estimate(batch))


def scale_behaviour(estimate: Estimate, batch: Batch, traits: Traits) -> str | None:
    """Multiplying every reward changes nothing, or multiplies the advantages."""
    if traits.scale == "any":
        return None
    doubled = estimate(batch.with_rewards(lambda rewards: rewards * 2.0))
    factor = 2.0 if traits.scale == "linear" else 1.0
    expected = [row * factor for row in estimate(batch)]
    # an eps added to the spread prevents exact invariance
    return _compare(doubled, expected, rtol=1e-2 if traits.scale == "invariant" else RTOL)


def masked_rows_neutral(estimate: Estimate, batch: Batch, traits: Traits) -> str | None:
    """A rollout without rewards gets 0, and does not change what the others get."""
    if len(batch.lengths) < 3:
        return None
    masked = batch.take(torch.arange(len(batch.lengths)))
    for table in (masked.rewards, masked.turn_rewards):
        table[0] = torch.nan
    got = estimate(masked)
    if any((row != 0).any() for row in got[:1]):
        return f"the masked row 0 gets {got[0].tolist()}, needs 0"
    rest = torch.arange(1, len(batch.lengths))
    return _compare(got[1:], estimate(batch.take(rest)))


def singleton_rule(estimate: Estimate, batch: Batch, traits: Traits) -> str | None:
    """A group of one gets 0."""
    if traits.singleton == "any":
        return None
    full = estimate(batch)
    labels = batch.group_index.tolist()
    for row in (i for i, label in enumerate(labels) if labels.count(label) == 1):
        if (full[row] != 0).any():
            return f"row {row} is alone in its group and gets {full[row].tolist()}, needs 0"
    return None


def float32_against_float64(estimate: Estimate, batch: Batch, traits: Traits) -> str | None:
    """float32 rewards give what the same numbers in float64 give: the statistics are float64."""
    narrow = batch.with_rewards(lambda rewards: rewards.float())
    wide = batch.with_rewards(lambda rewards: rewards.float().double())
    message = _compare(estimate(narrow), estimate(wide), rtol=1e-6)
    if message or traits.shift == "any":
        return message
    # an offset that float32 holds exactly, but not a float32 sum of such numbers
    narrow = batch.with_rewards(lambda rewards: (rewards + 4096.0).float())
    wide = batch.with_rewards(lambda rewards: (rewards + 4096.0).float().double())
    return _compare(estimate(narrow), estimate(wide), rtol=1e-6)


def zero_on_constants(estimate: Estimate, traits: Traits) -> str | None:
    """Equal rewards give exactly 0, at any value and group size."""
    if traits.constant == "any":
        return None
    fractions = (0.0, 1.0, 0.1, 1 / 3, 0.97, 0.7)
    for size in (2, 3, 7, 8, 12, 64):
        for value in (traits.low + f * (traits.high - traits.low) for f in fractions):
            for dtype in (torch.float64, torch.float32):
                batch = constant_batch(size, traits.columns, value)
                got = estimate(batch.with_rewards(lambda r, to=dtype: r.to(to)))  # type: ignore[misc]  # mypy reads `to` as untyped
                if any((row != 0).any() for row in got):
                    worst = max(float(row.abs().max()) for row in got)
                    return f"{size} rewards of {value!r} ({dtype}) give up to {worst:g}, need 0"
    return None


CHECKS: dict[str, Check] = {
    "repeatable and finite": repeatable,
    "permutation equivariance": permutation_equivariance,
    "group independence and batch-split invariance": group_independence,
    "shift behaviour": shift_behaviour,
    "scale behaviour": scale_behaviour,
    "singleton rule": singleton_rule,
    "masked rows neutral": masked_rows_neutral,
    "float32 against float64": float32_against_float64,
}

TRIALS = {"exact zero on constants": zero_on_constants}


def _batches(traits: Traits) -> list[Batch]:
    shapes = ([2], [3], [2, 3], [1, 3], [4, 2, 3], [5, 1, 4], [3, 3, 3])
    return [
        random_batch(sizes, traits.columns, traits.low, traits.high, seed)
        for seed, sizes in enumerate(shapes)
    ]


def _by_rollout(
    estimator: Callable[..., Any], batch: Batch, options: dict[str, Any]
) -> list[Tensor]:
    columns = batch.columns()
    needed, optional = data_of(estimator)
    if absent := [name for name in needed if name not in columns]:
        raise ValueError(f"{_name(estimator)}: the kit has no column {absent}: {sorted(columns)}")
    stage = Stage(_name(estimator), estimator, options, needed, optional)
    kept = {name: column.clone() for name, column in columns.items()}
    result = stage(columns)
    for name, column in columns.items():
        if not torch.equal(column.nan_to_num(1e9), kept[name].nan_to_num(1e9)):
            raise ConformanceError(f"{_name(estimator)}: it changes its argument {name!r}")
    try:
        advantages = as_advantages(stage, result, columns)
    except ValueError as error:
        raise ConformanceError(str(error)) from None
    if advantages.rollout_index is not None:
        return list(torch.split(advantages.values, batch.lengths.tolist()))
    return list(advantages.values.reshape(len(batch.lengths), -1))


def _compare(got: list[Tensor], want: list[Tensor], rtol: float = RTOL) -> str | None:
    left, right = torch.cat(got), torch.cat(want)
    size = right.abs().max().clamp(min=1.0)
    if left.shape == right.shape and bool(((left - right).abs() <= rtol * size).all()):
        return None
    return f"got {left.tolist()}\n  needs {right.tolist()}"


def _fail(
    estimator: Callable[..., Any],
    name: str,
    check: Check,
    estimate: Estimate,
    batch: Batch,
    traits: Traits,
) -> None:
    smallest = _shrunk(check, estimate, batch, traits)
    message = check(estimate, smallest, traits)
    raise ConformanceError(
        f"{_name(estimator)}: {name}: {check.__doc__}\n  {smallest.show()}\n  {message}"
    )


def _shrunk(check: Check, estimate: Estimate, batch: Batch, traits: Traits) -> Batch:
    """Drop one rollout after the other as long as the check still fails."""
    for row in range(len(batch.lengths)):
        rest = [i for i in range(len(batch.lengths)) if i != row]
        if not rest:
            return batch
        smaller = batch.take(torch.tensor(rest))
        try:
            still = check(estimate, smaller, traits) is not None
        except (ValueError, ConformanceError):  # too small for the estimator itself
            still = False
        if still:
            return _shrunk(check, estimate, smaller, traits)
    return batch


def _check_gradient(
    estimator: Callable[..., Any], estimate: Estimate, traits: Traits
) -> GradientReport:
    report = bandit_gradient(estimate, 4, traits.low, traits.high)
    wrong = (traits.gradient == "unbiased" and report.relative_bias > 1e-6) or (
        traits.gradient != "any" and not report.cosine > 0.9
    )
    if wrong:
        raise ConformanceError(
            f"{_name(estimator)}: gradient on a bandit of four actions, groups of four: claims "
            f"{traits.gradient}\n  cosine with the true gradient {report.cosine:.6f}, relative "
            f"bias {report.relative_bias:.6f}"
        )
    return report


def _flat(rows: list[Tensor]) -> list[float]:
    return [float(v) for v in torch.cat(rows)]


def _name(estimator: Callable[..., Any]) -> str:
    return getattr(estimator, "__name__", repr(estimator))
