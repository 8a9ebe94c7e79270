"""Functions given from Python: found in a config, and named where the config is written."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer

from rlnorm.from_python import name_from_python

NameOrFunction = Annotated[
    str | Callable[..., Any],
    PlainSerializer(lambda f: name_from_python(f) if callable(f) else f, when_used="json"),
]
"""A name in a file, or (from Python) the function itself."""


def given_functions(table: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Functions given from Python in a part of a config, each with its dotted key."""
    if callable(table):
        yield key, table
    elif isinstance(table, Mapping | list | tuple):
        items = table.items() if isinstance(table, Mapping) else enumerate(table)
        for name, part in items:
            yield from given_functions(part, f"{key}.{name}".lstrip("."))


def as_written(value: Any) -> Any:
    """A part of the algorithm's table as a file has it."""
    if isinstance(value, Mapping):
        return {key: as_written(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_written(part) for part in value]
    return name_from_python(value) if callable(value) else value
