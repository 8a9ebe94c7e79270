"""Reads and checks prompts that a data row holds as chat messages."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlnorm.errors import InputError

ROLES = ("system", "user", "assistant", "tool")
_SHOWN = 80


def read_messages(value: Any, where: str) -> tuple[Mapping[str, str], ...]:
    """A conversation up to the policy's turn: [{"role": ..., "content": text}, ...], where only the
    first may be a system message and the last is the user's. InputError names the bad message."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InputError(
            f"{where} = {shown(value)}: needs a non-empty list of {{role, content}} messages"
        )
    messages = [_message(item, f"{where}[{index}]") for index, item in enumerate(value)]
    for index, message in enumerate(messages[1:], start=1):
        if message["role"] == "system":
            raise InputError(f"{where}[{index}]: a system message may only come first")
    if messages[-1]["role"] != "user":
        raise InputError(
            f"{where}[{len(messages) - 1}].role = {messages[-1]['role']!r}: the last message must "
            "be the user's; a reference answer belongs in the answer column"
        )
    return tuple(messages)


def _message(item: Any, where: str) -> Mapping[str, str]:
    if not isinstance(item, Mapping):
        raise InputError(f"{where} = {shown(item)}: needs a table with role and content")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise InputError(f"{where}.role = {shown(role)}: allowed {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise InputError(f"{where}.content = {shown(content)}: needs text")
    # Parquet gives every message the keys of all messages, with null for those it lacks
    more = sorted(k for k, v in item.items() if k not in ("role", "content") and v)
    if more:
        raise InputError(f"{where}.{more[0]}: only role and content are read")
    return {"role": str(role), "content": content}


def without_system(messages: Sequence[Mapping[str, str]]) -> str:
    """All messages but the system's, as one text by which duplicates are found."""
    return "\n".join(m["content"] for m in messages if m["role"] != "system")


def shown(value: Any) -> str:
    """A value in a message: its form in Python, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
