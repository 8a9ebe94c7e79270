"""`rlnorm grade`: verdicts on (gold, pred) rows from a file, and the audit of golds.

With several workers and enough rows, rows are split over worker processes. A verdict depends on
its own row alone, so any number of workers gives the same file.
"""

import asyncio
import json
import math
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlnorm.errors import InputError
from rlnorm.rewards.audit import AuditReport, audit_rows
from rlnorm.rewards.data.problems import load_problems
from rlnorm.rewards.math.compare import Policy
from rlnorm.rewards.math.reward import MathVerifier
from rlnorm.rewards.math.verify import check_policy
from rlnorm.rewards.outcome import Outcome
from rlnorm.rewards.pool import WorkerPool
from rlnorm.rewards.statistics import quantile

__all__ = ["GradeReport", "audit", "grade", "print_report", "read_cases"]

_NEEDED = ("id", "gold", "pred")
_MAX_ERRORS = 5
_IN_PARENT = 2000
"""Up to this many rows a second process costs more than it saves."""


@dataclass(frozen=True, slots=True)
class GradeReport:
    """Results of a grading run; errors by category are counted over rows with `expected`."""

    rows: int
    correct: int
    seconds: float
    status: Counter[str] = field(default_factory=Counter)
    by_category: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """category -> rows, false positives, false negatives, over rows with `expected`."""
    p50_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0


def read_cases(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Rows of a JSONL file; raises InputError that names up to five bad lines."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    # split on \n alone: other line separators may stand inside a string
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(_checked_row(json.loads(line)))
        except (ValueError, RecursionError) as error:
            bad.append(f"line {number}: {error}")
    if bad:
        more = f" (and {len(bad) - _MAX_ERRORS} more)" if len(bad) > _MAX_ERRORS else ""
        raise InputError(f"{file}: {'; '.join(bad[:_MAX_ERRORS])}{more}")
    if not rows:
        raise InputError(f"{file}: has no rows")
    return rows


def _checked_row(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"needs an object with {', '.join(_NEEDED)}")
    missing = [name for name in _NEEDED if name not in row]
    if missing:
        raise ValueError(f"has no {', '.join(missing)}")
    for name in ("gold", "pred"):
        if isinstance(row[name], bool) or not isinstance(row[name], str | int | float):
            raise ValueError(f"{name} = {row[name]!r}: needs text or a number")
    if isinstance(row["gold"], float) and not math.isfinite(row["gold"]):
        raise ValueError(f"gold = {row['gold']}: needs a finite number, or text")
    check_policy(row.get("policy") or {}, "policy")
    return row


class GradeRows:
    """Runs in a worker: verdicts of a chunk of (gold, pred, policy), layers 1 to 3 only."""

    def __call__(self, sample: Any) -> list[tuple[Any, float]]:
        """Verdict and seconds of each row. sample: the chunk; a worker passes what it gets by this
        name."""
        return asyncio.run(MathVerifier().verify(sample))


async def _grade_rows(
    items: Sequence[tuple[str, str, Policy]],
    pool: WorkerPool,
    deadline_s: float,
    advance: Callable[[int], None],
) -> list[tuple[bool, str, float]]:
    verifier = MathVerifier(pool, deadline_s=0.75 * deadline_s)
    if len(items) <= _IN_PARENT or pool.workers == 1:
        found = []
        for start in range(0, len(items), 256):
            found += await verifier.verify(items[start : start + 256])
            advance(len(items[start : start + 256]))
        return [_line(v, s) for v, s in found]
    shards = [items[i : i + 256] for i in range(0, len(items), 256)]
    call = pool.register("rlnorm.rewards.grade:GradeRows")
    found = []
    for start in range(0, len(shards), 4 * pool.workers):
        part = shards[start : start + 4 * pool.workers]
        outcomes = await pool.map(call, part, deadline_s=deadline_s * 256, chunk=1)
        for shard, outcome in zip(part, outcomes, strict=True):
            found += await _finish_shard(verifier, shard, outcome)
            advance(len(shard))
    return [_line(v, s) for v, s in found]


async def _finish_shard(
    verifier: MathVerifier, shard: Sequence[tuple[str, str, Policy]], outcome: Outcome
) -> list[tuple[Any, float]]:
    if outcome.kind != "ok":  # a lost worker must not lose rows
        return await verifier.verify(shard)
    return await verifier.settle(outcome.value)


def _line(verdict: Any, seconds: float) -> tuple[bool, str, float]:
    return verdict.status == "correct", str(verdict.status), seconds


def grade(
    cases: str | os.PathLike[str],
    out: str | os.PathLike[str],
    workers: int = 2,
    deadline: float = 2.0,
    *,
    show: bool = True,
) -> GradeReport:
    """Write `{"id","correct","status","seconds"}` lines to `out`, in input order.

    deadline: seconds per row; a row still undecided then is not correct. show: progress and a
    summary table on the terminal.
    """
    if not 1 <= workers <= 256:
        raise InputError(f"workers = {workers}: needs 1 to 256")
    if not 0.05 <= deadline <= 3600:
        raise InputError(f"deadline = {deadline}: needs 0.05 to 3600 seconds")
    target = Path(out)
    _check_target(target, Path(cases))
    rows = read_cases(cases)
    items = [
        (str(r["gold"]), str(r["pred"]), check_policy(r.get("policy") or {}, "policy"))
        for r in rows
    ]
    start = time.perf_counter()
    with _progress(len(rows), show) as advance:
        verdicts = asyncio.run(_with_pool(items, workers, deadline, advance))
    seconds = time.perf_counter() - start
    _write(target, rows, verdicts)
    report = _report(rows, verdicts, seconds)
    if show:
        print_report(report)
    return report


def _check_target(target: Path, cases: Path) -> None:
    """Refuse an output path here that would otherwise fail after all the grading."""
    if target.is_dir():
        raise InputError(f"out = {str(target)!r}: is a folder; name a file")
    if not target.parent.is_dir():
        raise InputError(f"{target}: its folder does not exist")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"out = {str(target)!r}: its folder is not writable")
    if target.exists() and cases.exists() and target.samefile(cases):
        raise InputError(f"out = {str(target)!r}: is also the file of the cases")


def _write(
    target: Path, rows: Sequence[dict[str, Any]], verdicts: Sequence[tuple[bool, str, float]]
) -> None:
    """All lines or none: a reader never sees half a file."""
    partial = target.with_name(target.name + ".part")
    try:
        with partial.open("w", encoding="utf-8") as f:
            for row, (correct, status, took) in zip(rows, verdicts, strict=True):
                line = {"id": row["id"], "correct": correct, "status": status}
                f.write(json.dumps(line | {"seconds": round(took, 6)}) + "\n")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


async def _with_pool(
    items: Sequence[tuple[str, str, Policy]],
    workers: int,
    deadline: float,
    advance: Callable[[int], None],
) -> list[tuple[bool, str, float]]:
    pool = WorkerPool(workers, deadline_s=deadline)
    try:
        return await _grade_rows(items, pool, deadline, advance)
    finally:
        await asyncio.to_thread(pool.close)


def _report(
    rows: Sequence[dict[str, Any]], verdicts: Sequence[tuple[bool, str, float]], seconds: float
) -> GradeReport:
    table: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row, (correct, _, _) in zip(rows, verdicts, strict=True):
        if isinstance(row.get("expected"), bool):
            counts = table[str(row.get("category", "all"))]
            counts[0] += 1
            counts[1] += correct and not row["expected"]
            counts[2] += row["expected"] and not correct
    times = [t for _, _, t in verdicts]
    return GradeReport(
        rows=len(rows),
        correct=sum(correct for correct, _, _ in verdicts),
        seconds=seconds,
        status=Counter(status for _, status, _ in verdicts),
        by_category={name: (n[0], n[1], n[2]) for name, n in sorted(table.items())},
        p50_s=quantile(times, 0.5),
        p99_s=quantile(times, 0.99),
        max_s=max(times),
    )


def _progress(total: int, show: bool) -> AbstractContextManager[Callable[[int], None]]:
    """A context manager that gives `advance(count)`; draws a bar on a terminal only."""
    from rich.console import Console

    console = Console(stderr=True)
    if not (show and console.is_terminal):
        return nullcontext(lambda count: None)
    from contextlib import contextmanager

    from rich.progress import Progress

    @contextmanager
    def bar() -> Iterator[Callable[[int], None]]:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("grading", total=total)
            yield lambda count: progress.advance(task, count)

    return bar()


def print_report(report: GradeReport) -> None:
    """The summary on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{report.rows} rows, {report.correct} correct, {report.seconds:.2f} s")
    for column in ("status", "rows", "share"):
        table.add_column(column, justify="left" if column == "status" else "right")
    for status, count in report.status.most_common():
        table.add_row(status, str(count), f"{count / report.rows:.1%}")
    console.print(table)
    rate = report.rows / max(report.seconds, 1e-9)
    console.print(
        f"{rate:,.0f} verdicts/s; a row took p50 {report.p50_s * 1e3:.2f} ms,"
        f" p99 {report.p99_s * 1e3:.1f} ms, at most {report.max_s:.2f} s"
    )
    if report.by_category:
        checked = Table(title="against `expected`")
        for column in ("category", "rows", "false positive", "false negative"):
            checked.add_column(column, justify="left" if column == "category" else "right")
        for name, (count, positive, negative) in report.by_category.items():
            checked.add_row(name, str(count), str(positive), str(negative))
        console.print(checked)


def audit(
    data: str | os.PathLike[str],
    *,
    format: str | None = None,
    fields: Mapping[str, str] | None = None,
    split: str | None = None,
    show: bool = True,
) -> AuditReport:
    """`rlnorm grade --audit`: audit every gold of a data set and show what fails."""
    rows, _ = load_problems(
        data, format=format, fields=fields, split=split, audit=False, on_bad="drop"
    )
    report = audit_rows([(r.id, r.answer, r.meta) for r in rows])
    if show:
        print_audit(report)
    return report


def print_audit(report: AuditReport) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    good = report.total - len(report.failed)
    title = f"{good} of {report.total} golds verify; {len(report.text_only)} only as text"
    if report.structured:
        title += f"; {len(report.structured)} are structured or missing and were not judged"
    table = Table(title=title)
    for column in ("id", "finding"):
        table.add_column(column)
    for id_ in report.failed:
        table.add_row(escape(id_), escape(report.why[id_][:120]))
    for id_ in report.text_only[:20]:
        table.add_row(escape(id_), "not readable as mathematics: compared as text")
    Console().print(table)
