"""One reward as the config states it, checked before anything starts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rlnorm.errors import InputError
from rlnorm.lookup import choices

DEFAULT_MEMORY_MB = 3072


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardSpec:
    """Example: RewardSpec(name="correct", function="math", weight=1.0)."""

    name: str
    function: str | Callable[..., Any]
    """A built-in name, "module:name", "FILE.py:NAME", or (from Python) the object itself."""
    weight: float | Mapping[str, float] = 1.0
    """One number, or one per component if the function returns several."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword-only options of the function, or arguments of the class."""
    gate: str | None = None
    """Component that must be > 0 for this one to count; otherwise this one is 0."""
    components: tuple[str, ...] = ()
    """Names in the dict the function returns; empty for a function of one value, named `name`."""
    deadline_s: float | None = None
    """Wall-clock seconds for one sample; None takes the scorer's."""
    memory_mb: int | None = None
    """Data that a worker may hold; None: DEFAULT_MEMORY_MB. Workers serve all rewards, so the
    largest limit holds for all of them."""
    rows: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Column of a sample's meta -> the values for which the reward applies; empty: to all."""

    def applies_to(self, meta: Mapping[str, Any]) -> bool:
        """True if the row with these columns is one that the reward is for."""
        return all(meta.get(column) in values for column, values in self.rows.items())


_FIELDS = tuple(RewardSpec.__dataclass_fields__)


def _check_number(where: str, value: object, *, positive: bool = False) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or (positive and float(value) <= 0):  # type: ignore[arg-type]  # a number where good
        kind = "a finite number above 0" if positive else "a finite number"
        raise InputError(f"{where} = {value!r}: needs {kind}")


def parse_spec(raw: Mapping[str, Any] | RewardSpec, where: str) -> RewardSpec:
    """Check one config table; `where` opens every error message, like "rewards[0]"."""
    if isinstance(raw, RewardSpec):
        raw = {name: getattr(raw, name) for name in _FIELDS}
    if not isinstance(raw, Mapping):
        raise InputError(f"{where} = {raw!r}: needs a table with name and function")
    for key in raw:
        if key not in _FIELDS:
            raise InputError(f"{where}.{key}: {choices(key, _FIELDS)}")
    function = raw.get("function")
    if not (isinstance(function, str) and function) and not callable(function):
        raise InputError(
            f"{where}.function = {function!r}: needs a built-in name, module:name or FILE.py:NAME"
        )
    name = raw.get("name", function if isinstance(function, str) else None)
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}.name = {name!r}: needs a non-empty string")
    if not isinstance(raw.get("options", {}), Mapping):
        raise InputError(f"{where}.options = {raw['options']!r}: needs a table")
    components = raw.get("components") or ()
    if isinstance(components, str) or not all(isinstance(c, str) and c for c in components):
        raise InputError(f"{where}.components = {components!r}: needs a list of names")
    weight = raw.get("weight", 1.0)
    for key, value in weight.items() if isinstance(weight, Mapping) else [("", weight)]:
        _check_number(f"{where}.weight{'.' + key if key else ''}", value)
    if raw.get("deadline_s") is not None:
        _check_number(f"{where}.deadline_s", raw["deadline_s"], positive=True)
    if raw.get("memory_mb") is not None:
        _check_number(f"{where}.memory_mb", raw["memory_mb"], positive=True)
    return RewardSpec(
        name=name,
        function=function,
        weight=weight,
        options=dict(raw.get("options", {})),
        gate=raw.get("gate"),
        components=tuple(components),
        deadline_s=raw.get("deadline_s"),
        memory_mb=raw.get("memory_mb"),
        rows=_rows(raw.get("rows") or {}, f"{where}.rows"),
    )


def _rows(raw: Any, where: str) -> dict[str, tuple[Any, ...]]:
    if not isinstance(raw, Mapping):
        raise InputError(f"{where} = {raw!r}: needs a table of a column and its values")
    found = {}
    for column, values in raw.items():
        listed = tuple(values) if isinstance(values, list | tuple) else (values,)
        if not listed or not all(isinstance(v, str | int | float) for v in listed):
            raise InputError(f"{where}.{column} = {values!r}: needs a text or number, or several")
        found[str(column)] = listed
    return found


def component_weights(spec: RewardSpec, components: tuple[str, ...]) -> dict[str, float]:
    """Weight of each component of one spec."""
    if not isinstance(spec.weight, Mapping):
        return dict.fromkeys(components, float(spec.weight))
    if set(spec.weight) != set(components):
        raise InputError(
            f"rewards.{spec.name}.weight names {sorted(spec.weight)}: components are"
            f" {sorted(components)}"
        )
    return {name: float(spec.weight[name]) for name in components}
