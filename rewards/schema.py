"""JSON-schema match with a small validator of our own: no dependency, unknown keywords refused."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rlnorm.errors import InputError
from rlnorm.rewards.json_values import same_json
from rlnorm.rewards.match import no_answer, verdict
from rlnorm.rewards.spec import suggest
from rlnorm.rewards.text import after_reasoning
from rlnorm.rewards.types import Sample, Score, Status

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
}


def _type(value: Any, rule: Any) -> bool:
    return any(_TYPES[name](value) for name in ([rule] if isinstance(rule, str) else rule))


def _object(value: Any, schema: Mapping[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties", True)
    if not all(name in value for name in schema.get("required", ())):
        return False
    if not all(matches(value[n], s) for n, s in properties.items() if n in value):
        return False
    others = [v for n, v in value.items() if n not in properties]
    return not others if extra is False else extra is True or all(matches(v, extra) for v in others)


_NUMBER_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda v, n: v >= n,
    "maximum": lambda v, n: v <= n,
    "exclusiveMinimum": lambda v, n: v > n,
    "exclusiveMaximum": lambda v, n: v < n,
    "multipleOf": lambda v, n: v % n == 0,
}
_STRING_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "minLength": lambda v, n: len(v) >= n,
    "maxLength": lambda v, n: len(v) <= n,
    "pattern": lambda v, p: re.search(p, v) is not None,
}
_ARRAY_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "minItems": lambda v, n: len(v) >= n,
    "maxItems": lambda v, n: len(v) <= n,
    "items": lambda v, s: all(matches(item, s) for item in v),
    "uniqueItems": lambda v, on: (
        not on or not any(same_json(a, b) for i, a in enumerate(v) for b in v[:i])
    ),
}
_ANY_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "type": _type,
    "enum": lambda v, options: any(same_json(v, o) for o in options),
    "const": same_json,
    "anyOf": lambda v, schemas: any(matches(v, s) for s in schemas),
    "allOf": lambda v, schemas: all(matches(v, s) for s in schemas),
    "oneOf": lambda v, schemas: sum(matches(v, s) for s in schemas) == 1,
    "not": lambda v, schema: not matches(v, schema),
}
_OBJECT_RULES = ("properties", "required", "additionalProperties")
_NOTES = ("title", "description", "default", "examples", "$schema", "$id")
_BY_TYPE = (("number", _NUMBER_RULES), ("string", _STRING_RULES), ("array", _ARRAY_RULES))
KEYWORDS = [*_ANY_RULES, *_NUMBER_RULES, *_STRING_RULES, *_ARRAY_RULES, *_OBJECT_RULES, *_NOTES]


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (TypeError, re.error):
        return False
    return isinstance(value, str)


def _lists(value: Any, of: Collection[str] | None = None) -> bool:
    """A list of names, of these where some are given."""
    return isinstance(value, list | tuple) and all(
        isinstance(name, str) and (of is None or name in of) for name in value
    )


_NUMBER = ("a number", _TYPES["number"])
_COUNT = ("a whole number from 0", lambda v: _TYPES["integer"](v) and v >= 0)
_SCHEMAS = ("a list of schemas", lambda v: isinstance(v, list | tuple))
_NEEDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
    "multipleOf": ("a number above 0", lambda v: _TYPES["number"](v) and v > 0),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _COUNT),
    "pattern": ("a regular expression", _is_pattern),
    "uniqueItems": ("true or false", _TYPES["boolean"]),
    "properties": ("a table", lambda v: isinstance(v, Mapping)),
    "required": ("a list of names", _lists),
    "type": (
        f"one or a list of {sorted(_TYPES)}",
        lambda v: _lists([v] if isinstance(v, str) else v, _TYPES),
    ),
    "enum": ("a list", lambda v: isinstance(v, list | tuple)),
    **dict.fromkeys(("anyOf", "allOf", "oneOf"), _SCHEMAS),
}


def matches(value: Any, schema: Any) -> bool:
    """True when the value satisfies the schema (a table, or true / false)."""
    if isinstance(schema, bool):
        return schema
    for keyword, rule in _ANY_RULES.items():
        if keyword in schema and not rule(value, schema[keyword]):
            return False
    for type_name, rules in _BY_TYPE:
        if _TYPES[type_name](value):
            for keyword, rule in rules.items():
                if keyword in schema and not rule(value, schema[keyword]):
                    return False
    return _object(value, schema)


def check_schema(schema: Any, where: str) -> None:
    """Refuse keywords this validator would silently ignore, and values it cannot use."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise InputError(f"{where} = {schema!r}: needs a table or a boolean")
    for keyword, value in schema.items():
        if keyword not in KEYWORDS:
            raise InputError(f"{where}.{keyword}: {suggest(str(keyword), KEYWORDS)}")
        needs, fits = _NEEDS.get(keyword, ("", None))
        if fits is not None and not fits(value):
            raise InputError(f"{where}.{keyword} = {value!r}: needs {needs}")
        if keyword == "properties":
            for name, part in value.items():
                check_schema(part, f"{where}.properties.{name}")
        if keyword in ("items", "not", "additionalProperties"):
            check_schema(value, f"{where}.{keyword}")
        if keyword in ("anyOf", "allOf", "oneOf"):
            for i, part in enumerate(value):
                check_schema(part, f"{where}.{keyword}[{i}]")


_FENCE = "```"


def _json_text(text: str) -> str:
    """The last fenced block, else everything."""
    parts = text.split(_FENCE)
    if len(parts) < 3:
        return text
    block = parts[-2] if len(parts) % 2 else parts[-1]
    return block.removeprefix("json").strip()


class JsonSchema:
    """1.0 when the answer (its last fenced block, if any) is JSON that satisfies the schema.

    schema: a table; a row's meta["schema"] is used when none is given. Runs in a worker.
    """

    def __init__(self, schema: Mapping[str, Any] | None = None) -> None:
        if schema is not None:
            check_schema(schema, "json_schema.schema")
        self._schema = schema

    def __call__(self, sample: Sample) -> Score:
        """Score one sample."""
        schema = self._schema if self._schema is not None else sample.meta.get("schema")
        check_schema(schema, "schema")
        text = after_reasoning(sample.completion)
        if text is None or not text.strip():
            return no_answer("nothing after the reasoning")
        try:
            return verdict(matches(json.loads(_json_text(text.strip())), schema))
        except (ValueError, RecursionError, OverflowError) as error:
            # no JSON, nested too deep to compare, or a number too large to divide
            why = {"why": str(error)}
            return Score(components={"score": 0.0}, status=Status.UNPARSABLE, detail=why)
