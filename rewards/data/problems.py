"""Problems from JSONL, Parquet or the Hugging Face hub, checked before anything trains on them."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rlnorm.errors import InputError
from rlnorm.lookup import choices
from rlnorm.rewards.audit import AuditReport, audit_rows
from rlnorm.rewards.data import cells
from rlnorm.rewards.data.conversation import read_messages, shown, without_system
from rlnorm.rewards.data.files import read_rows
from rlnorm.rewards.data.formats import DataFormat, get_format
from rlnorm.rewards.json_values import plain_json
from rlnorm.rewards.math.verify import check_policy

_NAMES = ("id", "question", "messages", "answer", "source", "level")
SHOWN = 5
"""Ids in a message, of any number that it is about."""
_INDEX = re.compile(r"[0-9]{1,9}")
_BAD = {
    "duplicate": "duplicate id",
    "empty": "empty question or answer",
    "leaked": "questions that are also in the held-out data",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemRow:
    """One problem. Example: ProblemRow(id="gsm8k-7", question="...", answer="72")."""

    id: str
    question: str
    """Of a conversation, the last user message."""
    answer: Any
    """Text (numbers are converted), or a list or table as stored: several golds, tests, calls. None
    if the data has no golds."""
    messages: tuple[Mapping[str, str], ...] = ()
    """The conversation up to the policy's turn; empty if there is only a question."""
    source: str = ""
    level: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Every other column, plus `policy` and `verifier`; becomes Sample.meta."""
    own_id: bool = True
    """False if the id was made from the row's number."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was read and what was left out: reason -> ids (gold_error, duplicate, repeated, empty,
    leaked)."""

    read: int
    kept: int
    dropped: Mapping[str, tuple[str, ...]]
    audit: AuditReport | None = None

    def summary(self) -> str:
        """One line for the log."""
        parts = []
        for reason, ids in self.dropped.items():
            more = ", ..." if len(ids) > SHOWN else ""
            parts.append(f"{reason}: {len(ids)} ({', '.join(map(short, ids[:SHOWN]))}{more})")
        return f"{self.kept} of {self.read} rows kept" + (f"; {'; '.join(parts)}" if parts else "")


def load_problems(
    data: str | os.PathLike[str],
    *,
    format: str | None = None,
    fields: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str | None = None,
    policy: Mapping[str, Any] | None = None,
    keep_out: Sequence[ProblemRow] = (),
    on_bad: Literal["error", "drop"] = "error",
    audit: bool = True,
) -> tuple[list[ProblemRow], LoadReport]:
    """Return the usable rows and a report; golds that do not verify against themselves are dropped.

    data: a .jsonl or .parquet file, a folder of them, or a hub id (OWNER/NAME[@REVISION]); "" takes
    the format's hub id. subset: of a hub data set that has several.
    fields: {question: prompt, answer: gold, id: uid}, or {messages: conversation}; {answer: ""} for
    data without golds. keep_out: rows of the held-out split. A question that is also held out, an
    empty answer or a duplicate id is an error, or dropped with on_bad="drop". Of rows without an id
    that ask the same, the first is kept. Raises InputError with the file, the row and what is
    allowed.
    """
    chosen = _with_fields(get_format(format), fields or {})
    where = str(data) or chosen.hub
    if not where:
        raise InputError("data = '': needs a file or a hub id")
    raw = list(read_rows(where, chosen, subset, split))
    if not raw:
        raise InputError(f"{where}: has no rows")
    stem = Path(where).stem
    read = [
        (at, _problem(row, f"{stem}-{index}", where, at, chosen, policy or {}))
        for index, (at, row) in enumerate(raw)
    ]
    dropped: dict[str, list[str]] = defaultdict(list)
    rows = _without_bad(read, where, chosen, keep_out, on_bad, dropped)
    report = None
    if audit:
        report = audit_rows([(r.id, r.answer, r.meta) for r in rows])
        failed = set(report.failed)
        dropped["gold_error"] = list(report.failed)
        rows = [r for r in rows if r.id not in failed]
    if not rows:
        raise InputError(f"{where}: none of {len(raw)} rows is usable")
    left_out = {reason: tuple(ids) for reason, ids in dropped.items() if ids}
    return rows, LoadReport(len(raw), len(rows), left_out, report)


def _with_fields(data_format: DataFormat, fields: Mapping[str, str]) -> DataFormat:
    for name, column in fields.items():
        if name not in _NAMES:
            raise InputError(f"fields.{name}: {choices(name, _NAMES)}")
        if not column and name != "answer":
            raise InputError(f"fields.{name} = {column!r}: needs the name of a column")
    if "question" in fields and "messages" in fields:
        raise InputError("fields.messages: a prompt is read from it or from fields.question")
    columns = {name: (column,) if column else () for name, column in fields.items()}
    if "messages" in columns:
        columns["question"] = ()
    return replace(data_format, **columns)  # type: ignore[arg-type]  # names are checked above


def _get(row: Mapping[str, Any], column: str) -> Any:
    """What a column or a path of them holds; None for a null on the way, KeyError if absent."""
    found: Any = row
    for part in [column] if column in row else column.split("."):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and _INDEX.fullmatch(part) and int(part) < len(found):
            found = found[int(part)]
        elif found is None:
            return None
        else:
            raise KeyError(column)
    return found


def _has(row: Mapping[str, Any], column: str) -> bool:
    try:
        _get(row, column)
    except KeyError:
        return False
    return True


def _first(row: Mapping[str, Any], columns: Sequence[str], at: str) -> tuple[str, Any]:
    """The first of the columns that holds something, and what: "" and None if none does."""
    for column in columns:
        if _has(row, column) and (found := _get(row, column)) is not None:
            try:
                return column, plain_json(found)
            except UnicodeDecodeError as error:
                raise InputError(f"{at}: {column} holds bytes that are not UTF-8") from error
            except InputError as error:
                raise InputError(f"{at}: {column}: {error}") from error
    return "", None


def _needed(row: Mapping[str, Any], columns: Sequence[str], name: str, at: str) -> tuple[str, Any]:
    if not any(_has(row, column) for column in columns):
        hint = f"; name its column in data.fields.{name}"
        if name == "answer":
            hint += ', or set fields.answer: "" for data without golds'
        raise InputError(
            f"{at}: no field {' or '.join(columns)} for {name}; it has {sorted(row)}{hint}"
        )
    return _first(row, columns, at)


def _problem(
    raw: Mapping[str, Any],
    made_id: str,
    where: str,
    at: str,
    data_format: DataFormat,
    policy: Mapping[str, Any],
) -> ProblemRow:
    cells.check_row(raw, at)
    row = _converted(raw, data_format, at)
    question, messages, asked_in = _asked_in(row, data_format, at)
    gold = None
    if data_format.answer:
        column, value = _needed(row, data_format.answer, "answer", at)
        gold = cells.gold(value, f"{at}: {column}")

    def text(columns: Sequence[str]) -> str | None:
        column, value = _first(row, columns, at)
        return cells.name(value, f"{at}: {column}")

    own_id = text(data_format.id)
    column, level = _first(row, data_format.level, at)
    named = (data_format.question, data_format.answer, data_format.id, data_format.level)
    used = {"source", "policy", asked_in}.union(*named, data_format.source) - {*data_format.meta}
    meta = {k: v for k, v in row.items() if k not in used} | {"verifier": data_format.verifier}
    if merged := _policy(row, data_format, policy, at):
        meta["policy"] = merged
    return ProblemRow(
        id=made_id if own_id is None else own_id,
        question=question,
        answer=gold,
        messages=messages,
        source=text(data_format.source) or where,
        level=cells.level(level, f"{at}: {column}"),
        meta=meta,
        own_id=own_id is not None,
    )


def _converted(raw: Mapping[str, Any], data_format: DataFormat, at: str) -> Mapping[str, Any]:
    try:
        return data_format.convert(raw) if data_format.convert else raw
    except KeyError as error:
        raise InputError(f"{at}: no column {error}; it has {sorted(raw)}") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{at}: {error}") from error


def _asked_in(
    row: Mapping[str, Any], data_format: DataFormat, at: str
) -> tuple[str, cells.Messages, str]:
    """The question (of a conversation, its last message), the messages, and their column."""
    column, value = "", None
    if data_format.question:
        column, value = _first(row, data_format.question, at)
        if not column and not _first(row, data_format.messages, at)[0]:
            _needed(row, data_format.question, "question", at)
    if column:
        raw = _get(row, column)
        found = cells.question(value if isinstance(raw, bytes) else raw, f"{at}: {column}")
    else:
        column, value = _first(row, data_format.messages, at)
        if not data_format.question:
            _needed(row, data_format.messages, "messages", at)
        found = read_messages(value, f"{at}: {column}") if column else ""
    return (found, (), column) if isinstance(found, str) else (found[-1]["content"], found, column)


def _policy(
    row: Mapping[str, Any], data_format: DataFormat, given: Mapping[str, Any], at: str
) -> Mapping[str, Any]:
    own = row.get("policy")
    own = {} if cells.is_missing(own) or own == "" else own
    if not isinstance(own, Mapping):
        raise InputError(f"{at}: policy = {shown(own)}: needs a table of grading options")
    merged = {**data_format.policy, **own, **given}
    try:
        check_policy(merged, "policy")
    except (InputError, TypeError) as error:
        raise InputError(f"{at}: {error}") from error
    return merged


def short(id_: str) -> str:
    """An id in a message: in one line, cut off where it is long."""
    return id_ if id_.isprintable() and len(id_) <= 80 else shown(id_)


def question_key(question: str) -> str:
    """A key that copies of a question share: case, spaces and punctuation are ignored."""
    return re.sub(r"[\W_]+", " ", question.casefold()).strip()


def _asked(row: ProblemRow) -> str:
    """The question or conversation, spaces normalized; rows that share it ask the same."""
    return " ".join((without_system(row.messages) or row.question).split())


def _without_bad(
    read: Sequence[tuple[str, ProblemRow]],
    where: str,
    data_format: DataFormat,
    keep_out: Sequence[ProblemRow],
    on_bad: str,
    dropped: dict[str, list[str]],
) -> list[ProblemRow]:
    held_out = {question_key(_asked(r)) for r in keep_out}
    ids: set[str] = set()
    questions: set[str] = set()
    kept, places = [], defaultdict[str, list[str]](list)
    for at, row in read:
        reason, asked = "", _asked(row)
        if row.id in ids:
            reason = "duplicate"
        elif not row.question.strip() or (data_format.answer and cells.is_blank(row.answer)):
            reason = "empty"
        elif question_key(asked) in held_out:
            reason = "leaked"
        elif not row.own_id and asked in questions:
            reason = "repeated"
        ids.add(row.id)
        questions.add(asked)
        if reason:
            dropped[reason].append(row.id)
            places[reason].append(f"{short(row.id)} ({at.removeprefix(where).strip()})")
        else:
            kept.append(row)
    for reason, found in dropped.items():
        excused = reason == "repeated" or (
            reason == "duplicate" and data_format.on_duplicate == "drop"
        )
        if on_bad == "error" and not excused:
            rows = ", ".join(places[reason][:SHOWN])
            raise InputError(f"{where}: {len(found)} rows with {_BAD[reason]}: {rows}")
    return kept
