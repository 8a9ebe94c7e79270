"""Audit of golds: a gold that does not verify against itself can never be rewarded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlnorm.rewards.math.countdown import check_countdown
from rlnorm.rewards.math.extract import extract_gold
from rlnorm.rewards.math.verify import check_policy, reads_as_math, verify
from rlnorm.rewards.types import Status


@dataclass(frozen=True, slots=True)
class AuditReport:
    """failed: ids whose gold does not verify; text_only: ids whose gold is compared only as text.

    total: golds that were judged; structured ones (tests, calls, lists) are not.
    """

    total: int
    failed: tuple[str, ...]
    why: Mapping[str, str]
    text_only: tuple[str, ...]
    structured: tuple[str, ...] = ()


def check_gold(answer: str, meta: Mapping[str, Any]) -> str:
    """Return "" if the gold, written as a model would, scores correct; else the reason."""
    boxed = f"\\boxed{{{extract_gold(answer)}}}"
    if meta.get("verifier") == "countdown":
        # a target alone is not a solution; it only has to be a number
        if answer.strip() == str(meta["target"]):
            return ""
        verdict = check_countdown(boxed, meta["nums"], meta["target"])
    else:
        verdict = verify(answer, boxed, check_policy(meta.get("policy") or {}, "policy"))
    return "" if verdict.status is Status.CORRECT else f"{verdict.status}: {verdict.why or answer}"


def audit_rows(rows: Sequence[tuple[str, Any, Mapping[str, Any]]]) -> AuditReport:
    """Audit (id, answer, meta) rows.

    A gold that does not parse as mathematics fails only if the data format (meta["verifier"]) says
    that its answers are mathematics: elsewhere it may be a sentence for `exact` or code for a test.
    """
    why, text_only = {}, []
    judged = [row for row in rows if isinstance(row[1], str)]
    for id_, answer, meta in judged:
        kind = meta.get("verifier", "")
        readable = kind in ("choice", "countdown") or reads_as_math(extract_gold(answer))
        if not readable:
            text_only.append(id_)
        if (readable or kind) and (found := check_gold(answer, meta)):
            why[id_] = found
    structured = tuple(id_ for id_, answer, _ in rows if not isinstance(answer, str))
    return AuditReport(len(judged), tuple(why), why, tuple(text_only), structured)
