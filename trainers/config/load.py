"""The configuration of a run: YAML preset + dotted overrides -> one validated object."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from rlnorm.errors import InputError
from rlnorm.lookup import suggest
from rlnorm.rewards.data.cells import lone_surrogate
from rlnorm.trainers.config.file import find_preset, override, read_table
from rlnorm.trainers.config.schema import Config


def load_config(source: str, overrides: Sequence[str] = ()) -> Config:
    """The config of a YAML file or shipped preset name, with `key.sub=value` overrides applied."""
    table = read_table(find_preset(source))
    for assignment in overrides:
        override(table, assignment)
    return validate_config(table)


def validate_config(table: Mapping[str, Any]) -> Config:
    """Build the Config; InputError names the wrong key, its value and what is allowed."""
    _check_text(table)
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise InputError(_one_line(error)) from None


def _check_text(table: Mapping[str, Any]) -> None:
    """Refuse text that is not Unicode anywhere in a config, keys included."""
    todo: list[tuple[str, Any]] = [("", table)]
    seen: set[int] = set()  # an alias of YAML may repeat a table, or contain itself
    while todo:
        key, value = todo.pop()
        if isinstance(value, str) and (half := lone_surrogate(value)):
            where = ascii(key)[1:-1]
            what = f"holds {half!r}, half of a surrogate pair, which is not Unicode text"
            raise InputError(f"{where} = {value!r}: {what}")
        if isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for name, item in items:
                inner = f"{key}.{name}".lstrip(".")
                todo += [(inner, name), (inner, item)]


def sections(section: type[BaseModel] = Config, at: str = "") -> dict[str, type[BaseModel]]:
    """Every section by its dotted key, each before those it contains; Config itself is at "".

    A section under names of the user's own is at `KEY.<name>`.
    """
    found = {at: section}
    for name, field in section.model_fields.items():
        if inner := _section(field.annotation):
            found |= sections(inner, f"{at}.{name}".lstrip("."))
        elif inner := _named_section(field.annotation):
            found |= sections(inner, f"{at}.{name}.<name>".lstrip("."))
    return found


def all_keys() -> list[str]:
    """Every key that holds a value, dotted."""
    return [
        f"{at}.{name}".lstrip(".")
        for at, section in sections().items()
        for name, field in section.model_fields.items()
        if _section(field.annotation) is None
    ]


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section type of a key, or of the items of its list; None for a plain value."""
    inner = getattr(annotation, "__args__", (annotation,))[0]
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _named_section(annotation: Any) -> type[BaseModel] | None:
    """The section type of a table's items, also where a key takes text or a table."""
    if get_origin(annotation) is dict:
        return _section(get_args(annotation)[1])
    inner = (_named_section(part) for part in get_args(annotation))
    return next((found for found in inner if found), None)


def _one_line(error: ValidationError) -> str:
    errors = error.errors()
    # a misspelt key may be missing and unknown at once
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    kind, loc = first["type"], [part for part in first["loc"] if part not in _UNION_BRANCHES]
    where = ".".join(map(str, loc))
    if kind == "extra_forbidden":
        allowed = _keys_at(loc[:-1])
        return f"{where}: unknown key, choose from {', '.join(allowed)}{_nearest(loc, allowed)}"
    if kind == "missing":
        return f"{where}: missing, it must be set"
    if kind == "value_error":
        message = str(first["ctx"]["error"])
        return f"{where}: {message}" if where else message
    needed = _PLAINER.get(kind, first["msg"])
    if kind == "model_type":
        needed += f", choose from {', '.join(_keys_at(loc))}"
    return f"{where} = {first['input']!r}: {needed}"


_UNION_BRANCHES = (
    *("str", "callable", "float", "dict[str,any]", "dict[str,float]", "[key]"),
    *("[text]", "[table]"),
)
"""Parts of pydantic's locations that are not keys."""
_PLAINER = {
    "model_type": "needs keys with values",
    "dict_type": "needs keys with values, such as {name: value}",
    "list_type": "needs a list, such as [a, b]",
    "string_type": "needs text (a value in quotes is text)",
    "invalid_key": "needs text as a key",
}
"""Replaces messages of pydantic that speak of Python types."""


def _keys_at(loc: Sequence[int | str]) -> list[str]:
    """The keys of the section at a location, in which numbers are list indices."""
    section: type[BaseModel] = Config
    for part in loc:
        if isinstance(part, str) and part in section.model_fields:
            annotation = section.model_fields[part].annotation
            section = _section(annotation) or _named_section(annotation) or section
    return list(section.model_fields)


def _nearest(loc: Sequence[int | str], allowed: Sequence[str]) -> str:
    """A hint at the intended key: similar spelling in this section, or same name in another."""
    name = str(loc[-1])
    close = suggest(name, allowed, cutoff=0.8)
    # lora_rank was probably meant as lora.rank
    ends = f".{name}", f".{name.replace('_', '.')}"
    near = [key for key in all_keys() if f".{key}".endswith(ends)]
    return close or (f", did you mean {near[0]!r}?" if near else suggest(name, allowed))
