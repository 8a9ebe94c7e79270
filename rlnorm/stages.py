"""How a name and a table of options become a function: resolved and checked before any launch.

A stage is a plain function. Its positional parameters are data, filled by name; those with a
default are optional data, passed if present. Its keyword-only parameters are options.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlnorm.from_python import name_from_python
from rlnorm.lookup import load_object, suggest
from rlnorm.options import check_options


@dataclass(frozen=True, slots=True)
class Stage:
    """A function with its options bound; call it with a mapping that holds its data."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]
    data: tuple[str, ...]
    """Columns it requires."""
    optional: tuple[str, ...]
    """Columns it uses if they are given."""

    def __call__(self, data: Mapping[str, Any]) -> Any:
        """Raises ValueError naming the columns that are missing."""
        if absent := [name for name in self.data if data.get(name) is None]:
            raise ValueError(f"{self.name}: needs {absent}, got {sorted(data)}")
        columns = {name: data[name] for name in self.data}
        columns |= {name: data[name] for name in self.optional if data.get(name) is not None}
        return self.function(**columns, **self.options)


def resolve_stage(
    slot: str,
    spec: Any,
    table: Mapping[str, Callable[..., Any]],
    columns: Iterable[str],
) -> Stage:
    """The stage that `spec`, a config entry, names: "grpo" or {"name": "grpo", "eps": 1e-4}.

    A name of the form pkg.mod:fn or path/to/file.py:fn is imported; in place of a name the function
    itself may stand. Raises ValueError for an unknown name, option, option value or data parameter.
    """
    entry = named_entry(slot, spec, table)
    name = entry.pop("name")
    function = find_function(slot, name, table)
    name = name_from_python(name) if callable(name) else name
    check_options(f"{slot}.", name, function, entry)
    data, optional = data_of(function)
    known = set(columns)
    for column in (*data, *optional):
        if column not in known:
            raise ValueError(
                f"{slot}.name = {name!r}: its parameter {column!r} is not a data column: "
                f"allowed {sorted(known)}{suggest(column, known)}; options are keyword-only"
            )
    return Stage(name, function, entry, data, optional)


def named_entry(slot: str, spec: Any, table: Iterable[str]) -> dict[str, Any]:
    """A config entry as a table with its name in it."""
    entry = {"name": spec} if isinstance(spec, str) or callable(spec) else spec
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ValueError(
            f"{slot} = {spec!r}: needs one of {sorted(table)}, or a table with that as its 'name'"
        )
    return dict(entry)


def find_function(
    slot: str, name: Any, table: Mapping[str, Callable[..., Any]]
) -> Callable[..., Any]:
    """A function of the table, one imported from pkg.mod:fn or file.py:fn, or the one given."""
    if callable(name):
        return name  # type: ignore[no-any-return]  # it is callable
    if isinstance(name, str) and name in table:
        return table[name]
    if isinstance(name, str) and ":" in name:
        function = load_object(name, f"{slot}.name")
        if not callable(function):
            raise ValueError(f"{slot}.name = {name!r}: {function!r} is not a function")
        return function  # type: ignore[no-any-return]  # it is callable
    raise ValueError(
        f"{slot}.name = {name!r}: choose from {sorted(table)}, or 'package.module:function' or "
        f"'file.py:function' for one of your own{suggest(name, table)}"
    )


def data_of(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the columns a function needs, and of those it can use."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    needed = tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)
    return needed, tuple(p.name for p in parameters if p.name not in needed)
