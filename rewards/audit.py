"""The gold audit: a gold that does not verify against itself cannot be rewarded."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.math.countdown import check_countdown
from rewards.math.extract import extract_gold
from rewards.math.verify import check_policy, reads_as_math, verify
from rewards.types import Status


@dataclass(frozen=True, slots=True)
class AuditReport:
    """failed: ids whose gold does not verify; text_only: ids compared as text and nothing more."""

    total: int
    failed: tuple[str, ...]
    why: Mapping[str, str]
    text_only: tuple[str, ...]


def check_gold(answer: str, meta: Mapping[str, Any]) -> str:
    """Empty when the gold, written as a model would, scores correct; else why it does not."""
    boxed = f"\\boxed{{{extract_gold(answer)}}}"
    if meta.get("verifier") == "countdown":
        # a bare target is no witness; it only has to be a number
        if answer.strip() == str(meta["target"]):
            return ""
        verdict = check_countdown(boxed, meta["nums"], meta["target"])
    else:
        verdict = verify(answer, boxed, check_policy(meta.get("policy") or {}, "policy"))
    return "" if verdict.status is Status.CORRECT else f"{verdict.status}: {verdict.why or answer}"


def audit_rows(rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> AuditReport:
    """Audit (id, answer, meta) rows."""
    why = {id_: found for id_, answer, meta in rows if (found := check_gold(answer, meta))}
    text_only = tuple(
        id_
        for id_, answer, meta in rows
        if meta.get("verifier", "math") == "math" and not reads_as_math(extract_gold(answer))
    )
    return AuditReport(len(rows), tuple(why), why, text_only)


def audit(
    data: str | os.PathLike[str],
    *,
    preset: str | None = None,
    fields: Mapping[str, str] | None = None,
    split: str | None = None,
    show: bool = True,
) -> AuditReport:
    """`rlnorm grade --audit`: audit every gold of a data set and show what fails."""
    from rewards.data import load_problems

    rows, _ = load_problems(
        data, preset=preset, fields=fields, split=split, audit=False, on_bad="drop"
    )
    report = audit_rows([(r.id, r.answer, r.meta) for r in rows])
    if show:
        _print(report)
    return report


def _print(report: AuditReport) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    good = report.total - len(report.failed)
    title = f"{good} of {report.total} golds verify; {len(report.text_only)} only as text"
    table = Table(title=title)
    for column in ("id", "finding"):
        table.add_column(column)
    for id_ in report.failed:
        table.add_row(escape(id_), escape(report.why[id_][:120]))
    for id_ in report.text_only[:20]:
        table.add_row(escape(id_), "not readable as mathematics: compared as text")
    Console().print(table)
