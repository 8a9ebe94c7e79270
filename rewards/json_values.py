"""JSON values: conversion, display and equality."""

import datetime
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from rlnorm.errors import InputError

_TEXT_TYPES = (datetime.date, datetime.time, datetime.timedelta, UUID)


def plain_json(value: Any) -> Any:
    """The value as lists, dicts and JSON scalars; a date, a time, a UUID and a decimal become text.

    Bytes are decoded as UTF-8; UnicodeDecodeError if they are not. InputError for any other object.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Decimal):
        return number_text(value)
    if isinstance(value, _TEXT_TYPES):
        return str(value)
    raise InputError(f"a {type(value).__name__} is neither text, a number, a list nor a table")


def number_text(value: float | Decimal) -> str:
    """A number as written by hand: 2.0 is `2`, 1e3 `1000`, 2.5 `2.5`, a decimal 2.50 `2.5`."""
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not exact:
        return "0"
    if exact.is_finite() and exact == exact.to_integral_value():
        return format(exact.to_integral_value(), "f")
    return format(value, "f").rstrip("0") if isinstance(value, Decimal) else str(value)


def as_text(value: Any) -> str:
    """A gold as readable text: text unchanged, a structure as JSON, "" for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def same_json(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    """Deep equality: 1 is 1.0, true only true. tolerance: relative and absolute, for numbers."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b or (tolerance > 0 and _close(a, b, tolerance))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(
            same_json(x, y, tolerance) for x, y in zip(a, b, strict=True)
        )
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[key], b[key], tolerance) for key in a)
    return type(a) is type(b) and bool(a == b)


def _close(a: float, b: float, tolerance: float) -> bool:
    try:
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # an integer too large for a float: the exact comparison said no
        return False
