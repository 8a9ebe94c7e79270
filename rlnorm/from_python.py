"""Functions given from Python: their name in a config, and how other processes get them."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rlnorm.errors import InputError

_SOURCE = "<python>"
"""No module or file can have this name."""


def name_from_python(function: Callable[..., Any]) -> str:
    """The name that stands for a given function in a written config: `<python>:NAME`."""
    return f"{_SOURCE}:{getattr(function, '__name__', type(function).__name__)}"


def functions_in(table: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The functions in tables and lists of a config, each with its dotted key."""
    if callable(table):
        yield key, table
    elif isinstance(table, Mapping | list | tuple):
        items = table.items() if isinstance(table, Mapping) else enumerate(table)
        for name, part in items:
            yield from functions_in(part, f"{key}.{name}".lstrip("."))


def with_names(table: Any) -> Any:
    """The same part of a config with the name of each function in its place."""
    if isinstance(table, Mapping):
        return {key: with_names(part) for key, part in table.items()}
    if isinstance(table, list | tuple):
        return [with_names(part) for part in table]
    return name_from_python(table) if callable(table) else table


def refuse_name_from_python(reference: str, where: str) -> None:
    """Raise InputError for a `<python>:NAME`, which no other process can find again."""
    if reference.startswith(f"{_SOURCE}:"):
        raise InputError(
            f"{where} = {reference!r}: this function was given from Python; give it again, as "
            "rlnorm.trainers.train(..., resume=True) does, or name one as module:name"
        )


def pickled(function: Any, what: str) -> bytes:
    """A function, class or instance as bytes that `pickle.loads` reads in another process.

    An importable function is pickled by name; one defined in `__main__`, a notebook cell or
    another function by value, with everything it uses.
    what: the start of the InputError's message, which names what cannot be pickled.
    """
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(function)
    except Exception as error:  # pickling runs the object's own code
        held = _obstacle(function, set())
        name, value = held or ("", None)
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        why = f"it holds {name} (a {kind})" if held else f"{type(error).__name__}: {error}"
        raise InputError(f"{what} cannot be sent to another process: {why}") from error
    return data


def _obstacle(value: Any, seen: set[int]) -> tuple[str, Any] | None:
    """The innermost thing that does not pickle, by the names that lead to it, such as `f.lock`."""
    import cloudpickle

    seen.add(id(value))
    for name, part in _parts(value):
        if id(part) in seen:
            continue
        try:
            cloudpickle.dumps(part)
        except Exception:  # the caller says which error pickling ended with
            inner = _obstacle(part, seen)
            return (f"{name}.{inner[0]}", inner[1]) if inner else (name, part)
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The values that are pickled with a function, class or instance."""
    if inspect.ismethod(value):
        yield ("self", value.__self__)
    elif inspect.isfunction(value):
        used = inspect.getclosurevars(value)
        yield from {**used.nonlocals, **used.globals}.items()
        yield from ((p.name, p.default) for p in inspect.signature(value).parameters.values())
    elif hasattr(value, "__dict__") and not inspect.ismodule(value):
        yield from ((n, part) for n, part in vars(value).items() if not n.startswith("__"))
        if not inspect.isclass(value):
            yield (type(value).__name__, type(value))
