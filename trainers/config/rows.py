"""The rows of a data source, and which of them the rewards can use."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from rlnorm.errors import InputError
from rlnorm.rewards.audit import audit_rows
from rlnorm.rewards.data.problems import SHOWN, LoadReport, ProblemRow, load_problems, short
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.config.sources import (
    TASK_SIZES,
    DataSource,
    HubSource,
    check_source,
    local_files,
    parse_hub_source,
)
from rlnorm.trainers.tasks import generate_split


def read_rows(source: DataSource) -> tuple[list[ProblemRow], LoadReport]:
    """The rows of `task:NAME[:SPLIT]`, a .jsonl or .parquet file, `hf:...` or `FORMAT=FILE`, and
    what was left out. Files that have not changed since are not read again.

    Golds are not looked at. Raises InputError for a malformed row.
    """
    source.of_key(check_source, source.text, False)
    if source.text.startswith("task:"):
        rows = _task_rows(source.text)
        return rows, LoadReport(len(rows), len(rows), {})
    fields = tuple(source.fields.items())
    if (hub_source := parse_hub_source(source.text)) is not None:
        return source.of_key(_read_hub, hub_source, dict(fields))
    return _read_files(source.text, fields, _stamp(local_files(source)))


def usable_rows(
    source: DataSource, scorer: Scorer, on_bad_row: Literal["drop", "error"]
) -> tuple[list[ProblemRow], LoadReport]:
    """The rows whose golds the rewards can read, and what was left out.

    A gold that is mathematics or that `math` reads has to verify against itself
    (`rlnorm.rewards.audit`), unless the rewards that read mathematics are for other rows. Raises
    InputError for a malformed row, if no row is left, and for any bad gold with on_bad_row="error".
    """
    rows, report = read_rows(source)
    if source.text.startswith("task:"):
        return rows, report
    columns = {row.id: row_columns(row, source.name) for row in rows}
    audited = [_audited(r, columns[r.id], scorer) for r in rows if scorer.audits(columns[r.id])]
    why = dict(audit_rows(audited).why)
    for row in rows:
        if row.id not in why and (fault := scorer.gold_fault(row.answer, columns[row.id])):
            why[row.id] = fault
    if not why:
        return rows, report
    if on_bad_row == "error" or len(why) == len(rows):
        named = [f"{short(id_)} ({fault[:80]})" for id_, fault in [*why.items()][:SHOWN]]
        hint = "" if len(why) == len(rows) else ", or set data.on_bad_row: drop"
        raise InputError(
            f"{source.key} = {source.text!r}: {len(why)} of {report.read} golds cannot be read by "
            f"the rewards: {', '.join(named)}; correct them{hint}"
        )
    kept = [row for row in rows if row.id not in why]
    dropped = {**report.dropped, "gold_error": tuple(row.id for row in rows if row.id in why)}
    return kept, replace(report, kept=len(kept), dropped=dropped)


def _audited(
    row: ProblemRow, columns: Mapping[str, Any], scorer: Scorer
) -> tuple[str, Any, Mapping[str, Any]]:
    """The row as it is audited: what `math` reads is mathematics, also where no data format says
    so."""
    verifier = row.meta["verifier"] or ("math" if scorer.reads_math(columns) else "")
    return row.id, row.answer, {**row.meta, "verifier": verifier}


def forget_rows() -> None:
    """Free the rows of files that were read; the prompts hold what a run needs of them."""
    _read_files.cache_clear()


def row_columns(row: ProblemRow, name: str = "") -> dict[str, Any]:
    """The columns by which a reward is limited to rows. name: of the source among several."""
    own = {"source_in_file": row.source} if name else {}
    return {"source": name or row.source, "level": row.level, **row.meta, **own}


def _stamp(files: Sequence[Path]) -> tuple[tuple[int, int, int], ...]:
    """What changes when one of the files does; reading says what is wrong with one that is gone."""
    stats = [file.stat() for file in files if file.is_file()]
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


@lru_cache(maxsize=16)  # a run reads its rows when the config is checked, and again to render them
def _read_files(
    text: str, fields: tuple[tuple[str, str], ...], stamp: object
) -> tuple[list[ProblemRow], LoadReport]:
    data_format, equals, path = text.partition("=")
    return load_problems(
        path if equals else text,
        format=data_format if equals else None,
        fields=dict(fields),
        audit=False,
    )


def _read_hub(source: HubSource, fields: Mapping[str, str]) -> tuple[list[ProblemRow], LoadReport]:
    return load_problems(
        str(source.name),
        fields=fields,
        format=source.format,
        subset=source.subset,
        split=source.split,
        audit=False,
    )


def first_task_row(source: str) -> ProblemRow:
    """The first row of `task:NAME[:SPLIT]`."""
    return _task_rows(source, count=1)[0]


def _task_rows(source: str, count: int | None = None) -> list[ProblemRow]:
    _, name, *rest = source.split(":")
    split = rest[0] if rest else "train"
    return [
        ProblemRow(
            id=p.id,
            question=p.question,
            answer=p.answer,
            source=source,
            level=p.level,
            meta=dict(p.extras),
        )
        for p in generate_split(name, split, count or TASK_SIZES[split])
    ]
