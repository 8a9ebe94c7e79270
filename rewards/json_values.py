"""JSON values: when two are the same, and how one is kept and shown."""

import json
import math
from collections.abc import Mapping
from typing import Any


def plain_json(value: Any) -> Any:
    """The same in lists, tables and JSON scalars; what JSON has no form for (a date) as text.

    Bytes are text in UTF-8; UnicodeDecodeError where they are not.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return value.decode() if isinstance(value, bytes) else str(value)


def as_text(value: Any) -> str:
    """A gold for people and tables: text as it is, a structure as JSON, nothing for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def same_json(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    """Deep equality: 1 is 1.0, true is only true. tolerance: relative and absolute, of numbers."""
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
    except OverflowError:  # a whole number beyond every float: the exact comparison said no
        return False
