"""Problems from JSONL, Parquet or the Hugging Face hub, checked before anything trains on them."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rewards.audit import AuditReport, audit_rows
from rewards.errors import InputError
from rewards.hub import HubName, dataset_rows, parse_name
from rewards.presets import Preset, get_preset
from rewards.spec import suggest

_NAMES = ("id", "question", "answer", "source", "level")
_SUFFIXES = (".jsonl", ".json", ".parquet")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemRow:
    """One problem. Example: ProblemRow(id="gsm8k-7", question="...", answer="72")."""

    id: str
    question: str
    answer: str
    source: str = ""
    level: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Every other column, and `policy` and `verifier`: what Sample.meta should carry."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was read and what was left out: reason -> ids (gold_error, duplicate, empty, leaked)."""

    read: int
    kept: int
    dropped: Mapping[str, tuple[str, ...]]
    audit: AuditReport | None = None

    def summary(self) -> str:
        """One line for the log."""
        parts = []
        for reason, ids in self.dropped.items():
            more = ", ..." if len(ids) > _SHOWN else ""
            parts.append(f"{reason}: {len(ids)} ({', '.join(ids[:_SHOWN])}{more})")
        return f"{self.kept} of {self.read} rows kept" + (f"; {'; '.join(parts)}" if parts else "")


def load_problems(
    data: str | os.PathLike[str],
    *,
    preset: str | None = None,
    fields: Mapping[str, str] | None = None,
    subset: str | None = None,
    split: str | None = None,
    policy: Mapping[str, Any] | None = None,
    keep_out: Sequence[ProblemRow] = (),
    on_bad: Literal["error", "drop"] = "error",
    audit: bool = True,
) -> tuple[list[ProblemRow], LoadReport]:
    """Rows and what was dropped. Golds that do not verify against themselves are dropped.

    data: a .jsonl or .parquet file, a folder of them, or a hub id (OWNER/NAME[@REVISION]); "" takes
    the preset's hub id. subset: of a hub data set that has several.
    fields: {question: prompt, answer: gold, id: uid}. keep_out: rows of the held-out split; a
    question of theirs in this data is an error, or dropped with on_bad="drop", as are empty answers
    and duplicate ids. Raises InputError with the file, the row and what is allowed.
    """
    chosen = _with_fields(get_preset(preset), fields or {})
    where = str(data) or chosen.hub
    if not where:
        raise InputError("data = '': needs a file or a hub id")
    raw = list(_read(where, chosen, subset, split))
    if not raw:
        raise InputError(f"{where}: has no rows")
    rows = [_problem(row, i, where, chosen, policy or {}) for i, row in enumerate(raw)]
    dropped: dict[str, list[str]] = defaultdict(list)
    rows = _without_bad(rows, where, chosen, keep_out, on_bad, dropped)
    report = None
    if audit:
        report = audit_rows([(r.id, r.answer, r.meta) for r in rows])
        failed = set(report.failed)
        dropped["gold_error"] = list(report.failed)
        rows = [r for r in rows if r.id not in failed]
    if not rows:
        raise InputError(f"{where}: no usable row is left of {len(raw)}")
    left_out = {reason: tuple(ids) for reason, ids in dropped.items() if ids}
    return rows, LoadReport(len(raw), len(rows), left_out, report)


def _with_fields(preset: Preset, fields: Mapping[str, str]) -> Preset:
    for name in fields:
        if name not in _NAMES:
            raise InputError(f"fields.{name}: {suggest(name, list(_NAMES))}")
    changed = {name: (column,) for name, column in fields.items() if name != "source"}
    values = {n: getattr(preset, n) for n in Preset.__dataclass_fields__}
    return Preset(**(values | changed))


def _read(
    where: str, preset: Preset, subset: str | None, split: str | None
) -> Iterator[Mapping[str, Any]]:
    path = Path(where)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".jsonl", ".parquet"))
        if split is not None:
            files = [p for p in files if p.stem == split or p.stem.startswith(f"{split}-")]
        if not files:
            raise InputError(f"{path}: has no {split or '*'}.jsonl or .parquet")
        for file in files:
            yield from _read_file(file)
    elif path.is_file():
        yield from _read_file(path)
    elif path.suffix not in _SUFFIXES and (name := parse_name(where, "dataset")):
        yield from _read_hub(name, preset, subset, split)
    else:
        raise InputError(f"{where}: no such file, folder or hub id (owner/name)")


def _read_file(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            yield from pyarrow.parquet.read_table(path).to_pylist()
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable as Parquet: {error}") from error
        return
    if path.suffix not in _SUFFIXES:
        raise InputError(f"{path}: allowed are .jsonl and .parquet files")
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number}: needs an object, got {type(row).__name__}")
        yield row


def _read_hub(
    name: HubName, preset: Preset, subset: str | None, split: str | None
) -> Iterator[Mapping[str, Any]]:
    known = name.repo == preset.hub
    subset = subset or (preset.subset if known else None)
    wanted = split or (preset.split if known else "train")
    try:
        yield from dataset_rows(name, subset, wanted)
    except InputError as error:
        raise InputError(f"{name} (split {wanted!r}): {error}") from error


def _get(row: Mapping[str, Any], column: str) -> Any:
    found: Any = row
    for part in [column] if column in row else column.split("."):
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, Sequence) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def _first(row: Mapping[str, Any], columns: Sequence[str]) -> Any:
    return next((v for c in columns if (v := _get(row, c)) is not None), None)


def _needed(row: Mapping[str, Any], columns: Sequence[str], name: str, where: str) -> Any:
    if all(_get(row, c) is None and c.split(".")[0] not in row for c in columns):
        raise InputError(
            f"{where}: no field {' or '.join(columns)} for {name}; it has {sorted(row)}"
        )
    return _first(row, columns)


def _problem(
    raw: Mapping[str, Any], index: int, where: str, preset: Preset, policy: Mapping[str, Any]
) -> ProblemRow:
    at = f"{where} row {index + 1}"
    try:
        row = preset.convert(raw) if preset.convert else raw
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{at}: {error}") from error
    question = _needed(row, preset.question, "question", at)
    answer = _needed(row, preset.answer, "answer", at)
    if isinstance(answer, list):
        answer = ", ".join(str(a) for a in answer)
    known = _first(row, preset.id)
    level = _first(row, preset.level)
    used = {c for c in (*preset.question, *preset.answer, *preset.id, *preset.level)}
    meta = {k: v for k, v in row.items() if k not in used and k not in ("source", "policy")}
    merged = {**preset.policy, **(row.get("policy") or {}), **policy}
    return ProblemRow(
        id=f"{Path(where).stem}-{index}" if known is None else str(known),
        question="" if question is None else str(question),
        answer="" if answer is None else str(answer).strip(),
        source=str(row.get("source", "") or where),
        level=_level(level),
        meta={**meta, "verifier": preset.verifier} | ({"policy": merged} if merged else {}),
    )


def _level(value: Any) -> int | None:
    """5 for 5 and for `Level 5`; None where there is no number."""
    digits = re.search(r"\d+", str(value)) if value is not None else None
    return int(digits.group()) if digits else None


def question_key(question: str) -> str:
    """Spelling two copies of one question share: case, spaces and punctuation do not count."""
    return re.sub(r"[\W_]+", " ", question.casefold()).strip()


def _without_bad(
    rows: list[ProblemRow],
    where: str,
    preset: Preset,
    keep_out: Sequence[ProblemRow],
    on_bad: str,
    dropped: dict[str, list[str]],
) -> list[ProblemRow]:
    held_out = {question_key(r.question): r.id for r in keep_out}
    seen: set[str] = set()
    kept, reasons = [], {"duplicate": "duplicate id", "empty": "empty question or answer"}
    for row in rows:
        reason = ""
        if row.id in seen:
            reason = "duplicate"
        elif not row.answer.strip() or not row.question.strip():
            reason = "empty"
        elif question_key(row.question) in held_out:
            reason = "leaked"
        seen.add(row.id)
        if reason:
            dropped[reason].append(row.id)
        else:
            kept.append(row)
    for reason, ids in dropped.items():
        excused = reason == "duplicate" and preset.on_duplicate == "drop"
        if on_bad == "error" and not excused:
            what = reasons.get(reason, "questions that are also in the held-out data")
            shown = ", ".join(ids[:_SHOWN])
            raise InputError(f"{where}: {len(ids)} rows with {what}: {shown}")
    return kept
