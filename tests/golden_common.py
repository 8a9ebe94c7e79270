"""What the golden adapters share: cases, padded and packed layouts, documented departures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlnorm.advantages import ESTIMATORS

NAN_REWARD = "a NaN reward is left out instead of spoiling its group or batch"
SINGLETON = "a group of one gives 0 instead of its raw reward"
ROUNDING = "equal rewards give exactly 0 instead of rounding noise"
MASKED_ROWS = "fully masked rows count in no denominator"


@dataclass(frozen=True)
class Case:
    """One golden case without its name."""

    inputs: dict[str, Any]
    params: dict[str, Any]
    expected: dict[str, Any]
    dtype: str

    @property
    def tolerance(self) -> float:
        return 1e-6 if self.dtype.startswith("float32") else 1e-9

    def tensor(self, name: str) -> Tensor:
        return numbers(self.inputs[name])


@dataclass
class Result:
    """What the library gives, what is wanted, and why that is not the official number."""

    got: dict[str, Any]
    want: dict[str, Any]
    reasons: list[str] = field(default_factory=list)


def numbers(value: Any) -> Tensor:
    """Nested lists of numbers, None-free, with non-finite ones as strings; ragged ones padded."""
    if isinstance(value, Tensor):
        return value.detach().double()
    return torch.tensor(_parsed(value), dtype=torch.float64)


def _parsed(value: Any) -> Any:
    return [_parsed(v) for v in value] if isinstance(value, list) else float(value)


def estimated(name: str, *columns: Tensor, **more: Any) -> Tensor:
    """The advantages that an estimator returns."""
    return ESTIMATORS[name](*columns, **more).values


def labels(index: Sequence[Any]) -> Tensor:
    """Group labels of any kind as integers."""
    seen: dict[Any, int] = {}
    return torch.tensor([seen.setdefault(label, len(seen)) for label in index])


def consecutive(n: int, size: int) -> Tensor:
    return torch.arange(n) // size


@dataclass(frozen=True)
class Layout:
    """Padded rows and the packed vector of their trained tokens."""

    mask: Tensor

    @property
    def rollout_index(self) -> Tensor:
        return self.mask.nonzero()[:, 0]

    @property
    def positions(self) -> Tensor:
        return self.mask.nonzero()[:, 1]

    @property
    def lengths(self) -> Tensor:
        return self.mask.sum(dim=1)

    def pack(self, padded: Tensor) -> Tensor:
        return padded[self.mask]

    def unpack(self, packed: Tensor) -> Tensor:
        out = torch.zeros(self.mask.shape, dtype=packed.dtype)
        out[self.mask] = packed
        return out

    def spread(self, rows: Tensor) -> Tensor:
        return rows[:, None] * self.mask


def layout(case: Case, name: str = "response_mask") -> Layout:
    return Layout(case.tensor(name).bool())


def with_departures(
    call: Callable[[Tensor], Tensor],
    expected: Any,
    rewards: Tensor,
    groups: Tensor,
    *,
    coupled: bool = False,
    tolerance: float = 1e-9,
) -> tuple[Tensor, Tensor, list[str]]:
    """Library rows, wanted rows and reasons for an estimator given as a function of kept rows.

    call(rows) estimates on a subset of rows. Rows of NaN rewards are to give 0, and the others
    what they give without those rows; coupled: all rows then depend on them, not the group only.
    """
    n = rewards.shape[0]
    got, want, reasons = call(torch.arange(n)), numbers(expected).clone(), []
    missing = rewards.isnan() if rewards.dim() == 1 else rewards.isnan().all(dim=1)
    if missing.any():
        rows = (~missing).nonzero()[:, 0]
        without = torch.zeros_like(got)
        without[rows] = call(rows)
        touched = torch.isin(groups, groups[missing]) | coupled
        want[touched] = without[touched]
        reasons.append(NAN_REWARD)
    scalar = rewards if rewards.dim() == 1 else rewards.sum(dim=1)
    for label in groups.unique():
        rows = groups == label
        if rows.sum() == 1 and not want[rows].abs().max() <= tolerance:
            want[rows] = 0.0
            reasons.append(SINGLETON)
        elif (scalar[rows] == scalar[rows][0]).all() and want[rows].abs().max() > tolerance:
            want[rows] = 0.0
            reasons.append(ROUNDING)
    return got, want, sorted(set(reasons))
