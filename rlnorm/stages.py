"""How a name and a table of options become a function: resolved and checked before any launch.

A stage is a plain function. Its positional parameters are data, filled by name; those with a
default are optional data, passed when they are there. Its keyword-only parameters are options.
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Stage:
    """A function with its options bound; call it with a mapping that holds its data."""

    name: str
    function: Callable[..., Any]
    options: Mapping[str, Any]
    data: tuple[str, ...]
    """Columns it cannot do without."""
    optional: tuple[str, ...]
    """Columns it uses when they are given."""

    def __call__(self, data: Mapping[str, Any]) -> Any:
        """Raises ValueError naming the columns that are missing."""
        if absent := [name for name in self.data if data.get(name) is None]:
            raise ValueError(f"{self.name}: needs {absent}, got {sorted(data)}")
        columns = {name: data[name] for name in self.data}
        columns |= {name: data[name] for name in self.optional if data.get(name) is not None}
        return self.function(**columns, **self.options)


def resolve_stage(
    slot: str,
    spec: str | Mapping[str, Any],
    table: Mapping[str, Callable[..., Any]],
    columns: Iterable[str],
) -> Stage:
    """The stage that a config entry names: "grpo" or {"name": "grpo", "eps": 1e-4}.

    A name of the form pkg.mod:fn or path/to/file.py:fn is imported. Raises ValueError for an
    unknown name, option, option value or data parameter.
    """
    entry = named_entry(slot, spec, table)
    name = entry.pop("name")
    function = find_function(slot, name, table)
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
    entry = {"name": spec} if isinstance(spec, str) else spec
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ValueError(
            f"{slot} = {spec!r}: needs one of {sorted(table)}, or a table with that as its 'name'"
        )
    return dict(entry)


def find_function(
    slot: str, name: Any, table: Mapping[str, Callable[..., Any]]
) -> Callable[..., Any]:
    """A function of the table, or one imported from pkg.mod:fn or file.py:fn."""
    if isinstance(name, str) and name in table:
        return table[name]
    if isinstance(name, str) and ":" in name:
        return import_function(slot, name)
    raise ValueError(
        f"{slot}.name = {name!r}: choose from {sorted(table)}, or 'package.module:function' or "
        f"'file.py:function' for one of your own{suggest(name, table)}"
    )


def import_function(slot: str, path: str) -> Callable[..., Any]:
    """Import pkg.mod:fn, or fn from a file that need not be on the import path."""
    where, _, attribute = path.rpartition(":")
    try:
        module = (
            _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        )
    except (ImportError, FileNotFoundError) as error:
        raise ValueError(f"{slot}.name = {path!r}: cannot import {where!r}: {error}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        names = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        raise ValueError(
            f"{slot}.name = {path!r}: {where!r} has no function {attribute!r}: it has {names}"
        )
    return function  # type: ignore[no-any-return]


def data_of(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the columns a function needs, and of those it can use."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    needed = tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)
    return needed, tuple(p.name for p in parameters if p.name not in needed)


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Options of a function with their defaults; Parameter.empty where one must be given."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def check_options(
    where: str, name: str, function: Callable[..., Any], options: Mapping[str, Any]
) -> None:
    """Raise ValueError for an option that is unknown, missing, or of the wrong type."""
    known = options_of(function)
    for option, value in options.items():
        if option not in known:
            raise ValueError(
                f"{where}{option} = {value!r}: {name} takes {sorted(known)}{suggest(option, known)}"
            )
    empty = inspect.Parameter.empty
    if missing := [o for o, default in known.items() if default is empty and o not in options]:
        raise ValueError(f"{where}{missing[0]}: {name} needs a value for it")
    hints = get_type_hints(function)
    for option, value in options.items():
        if option in hints and not _fits(value, hints[option]):
            raise ValueError(
                f"{where}{option} = {value!r} ({type(value).__name__}): {name} takes "
                f"{_describe(hints[option])}"
            )


def suggest(got: Any, allowed: Iterable[str]) -> str:
    """ ", did you mean 'x'?" when something allowed looks like what was given."""
    close = difflib.get_close_matches(str(got), list(allowed), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _load_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    name = f"rlnorm_plugin_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is Literal:
        return value in arguments
    if origin in (list, tuple, Sequence):
        part = arguments[0] if arguments else Any
        return isinstance(value, (list, tuple)) and all(_fits(v, part) for v in value)
    if origin is Mapping or origin is dict:
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is types.NoneType:
        return value is None
    return not isinstance(hint, type) or isinstance(value, hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {list(get_args(hint))}"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
