"""Reads one cell of a data row as what it must be; InputError names the row, the column and what it
holds."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlnorm.errors import InputError
from rlnorm.rewards.data.conversation import read_messages, shown
from rlnorm.rewards.json_values import number_text

Messages = tuple[Mapping[str, str], ...]
_DEEPEST = 100
# a list of messages or a single one, alone or in a table such as {"messages": ...}, and the forms
# in which Python and numpy print them
_TABLES = re.compile(
    r"\s*(?:\{\s*[\"']\w+[\"']\s*:\s*)?(?:array\()?\s*[\[(]?\s*"
    r"\{\s*[\"'](?:role|content|from|value)[\"']\s*:.*\}[\s\])},]*(?:dtype=\w+\)[\s}]*)?",
    re.S,
)
_MESSAGE_KEYS = (("role", "content"), ("from", "value"))
_NEEDS_PROMPT = (
    "needs text, or a list of {role, content} messages; their column is data.fields.messages"
)


def check_row(row: Mapping[str, Any], at: str) -> None:
    """Refuse text that no UTF-8 file can hold, in any column, and tables nested without end."""
    for column, cell in row.items():
        if (found := _unreadable({column: cell})) is not None:
            place, reason = found
            raise InputError(f"{at}: {place} {reason}")


def lone_surrogate(text: str) -> str | None:
    """The first half of a surrogate pair that stands alone, or None: such text is not Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return text[error.start]
    return None


def question(value: Any, where: str) -> str | Messages:
    """The prompt of a cell: its text, or its messages if it holds a list of them; "" for null."""
    if is_missing(value):
        return ""
    if isinstance(value, str):
        if _is_conversation_as_text(value):
            raise InputError(
                f"{where} = {shown(value)}: is a conversation written as text; {_NEEDS_PROMPT}"
            )
        return value
    listed = isinstance(value, Sequence) and len(value) > 0
    if listed and all(isinstance(item, Mapping) and "role" in item for item in value):
        try:
            return read_messages(value, where)
        except InputError as error:
            raise InputError(f"{error} (read as data.fields.messages)") from error
    raise InputError(f"{where} = {shown(value)}: {_NEEDS_PROMPT}")


def gold(value: Any, where: str) -> Any:
    """A gold: text as it is without outer spaces, a number as text (2.0 is `2`), a list or table as
    stored; None for null and NaN. A number directly in a list is a whole one where its value is."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return value.strip()
    _refuse_truth(value, where)
    if isinstance(value, list):
        value = [None if is_missing(item) else _whole(item) for item in value]
        for index, item in enumerate([] if is_blank(value) else value):
            if item is None or (isinstance(item, str) and not item.strip()):
                what = "is null" if item is None else "is empty text"
                raise InputError(f"{where}[{index}]: {what}; leave it out or give the gold")
            _refuse_truth(item, f"{where}[{index}]")
    if (found := _not_finite(value)) is not None:
        place, number = found
        raise InputError(f"{where}{place} = {number}: needs a finite number, or text")
    return number_text(value) if isinstance(value, int | float) else value


def name(value: Any, where: str) -> str | None:
    """An id or source as text, from text or a number (1.0 is `1`); None for null and blank text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where} = {shown(value)}: needs text or a number")
    return number_text(value)


def level(value: Any, where: str) -> int | None:
    """5 for 5, 5.0 and `Level 5`; None for null, NaN and text without a number."""
    if is_missing(value):
        return None
    found = value
    if isinstance(value, str):
        numbers = re.search(r"-?\d+(\.\d+)?", value, re.ASCII)
        found = float(numbers[0]) if numbers else None
    wrong = isinstance(value, bool) or not isinstance(found, int | float | None)
    if wrong or (found is not None and not (abs(found) < 2**53 and found == int(found))):
        raise InputError(
            f"{where} = {shown(value)}: needs a whole number, or text with one such as `Level 5`"
        )
    return None if found is None else int(found)


def is_missing(value: Any) -> bool:
    """True for null and for NaN, which tables of numbers hold in its place."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_blank(answer: Any) -> bool:
    """No gold, an empty one, or a list of such."""
    if isinstance(answer, list):
        return all(is_blank(item) for item in answer)
    return answer is None or (not answer.strip() if isinstance(answer, str) else answer == {})


def _refuse_truth(value: Any, where: str) -> None:
    if isinstance(value, bool):
        raise InputError(
            f"{where} = {value}: is a truth value, which rewards do not compare; needs text, a "
            "number, a list or a table"
        )


def _whole(item: Any) -> Any:
    return int(item) if isinstance(item, float) and item.is_integer() else item


def _unreadable(value: Any, depth: int = 0) -> tuple[str, str] | None:
    """Where in a value lies what cannot be read, and why."""
    if isinstance(value, str):
        half = lone_surrogate(value)
        what = f"holds {half!r}, half of a surrogate pair, which is not Unicode text"
        return ("", what) if half else None
    if not isinstance(value, Mapping | list | tuple):
        return None
    if depth > _DEEPEST:
        return "", f"is nested more than {_DEEPEST} levels deep"
    for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
        found = _unreadable(key) or _unreadable(item, depth + 1)
        if found is not None:
            step = f"[{key}]" if isinstance(key, int) else f".{key}" if depth else str(key)
            return ascii(step)[1:-1] + found[0], found[1]
    return None


def _not_finite(value: Any) -> tuple[str, float] | None:
    """Where in a gold a NaN or an infinity lies."""
    if isinstance(value, float):
        return None if math.isfinite(value) else ("", value)
    if not isinstance(value, dict | list):
        return None
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if (found := _not_finite(item)) is not None:
            step = f"[{key}]" if isinstance(value, list) else f".{key}"
            return step + found[0], found[1]
    return None


def _is_conversation_as_text(text: str) -> bool:
    """True for the JSON or the Python form of messages, as a .csv file would hold it."""
    if not _TABLES.fullmatch(text):
        return False
    named = set(re.findall(r"[\"'](\w+)[\"']\s*:", text))
    return any(named.issuperset(keys) for keys in _MESSAGE_KEYS)
