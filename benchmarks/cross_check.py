"""Verdicts of rlnorm beside those of Math-Verify, on benchmark rows in every style of answer.

    python benchmarks/cross_check.py

The responses are those of tests/rewards/math/styles.py, known to be right or wrong.
Takes about a minute. Prints each disagreement where both decide, and writes
benchmarks/results/cross_check.json.
"""

import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "rewards" / "math")]

import math_verify  # noqa: E402
import styles  # noqa: E402

from benchmarks.record import RESULTS, conditions, keep  # noqa: E402
from rlnorm.rewards.math.verify import verify  # noqa: E402
from rlnorm.rewards.types import Status  # noqa: E402

EVERY = 5
"""Of the rows, each style takes one in so many; the next style starts one row later."""


def ours(gold: str, response: str) -> bool | None:
    """The verdict of rlnorm; None where it cannot read the answer or finds none."""
    decided = {Status.CORRECT: True, Status.WRONG: False}
    return decided.get(verify(gold, response).status)


def theirs(gold: str, response: str) -> bool | None:
    """The verdict of Math-Verify with its defaults; None where it finds no answer."""
    wanted, found = math_verify.parse(f"${gold}$"), math_verify.parse(response)
    return math_verify.verify(wanted, found) if wanted and found else None


def styled_rows() -> Iterator[tuple[str, str, bool]]:
    """Reference answer, response, and whether the response is right."""
    rows = styles.benchmark_rows()
    for start, style in enumerate(styles.STYLES):
        yield from styles.responses(style, rows[start % EVERY :: EVERY])


def main() -> None:
    """Count the verdicts, print the disagreements, keep the counts."""
    logging.disable(logging.CRITICAL)
    counts: Counter[str] = Counter()
    for gold, response, right in styled_rows():
        here, there = ours(gold, response), theirs(gold, response)
        counts["responses"] += 1
        for name, verdict in (("rlnorm", here), ("math_verify", there)):
            if verdict is None:
                counts[f"{name}_undecided"] += 1
            elif verdict != right:
                counts[f"{name}_{'accepts_wrong' if verdict else 'refuses_right'}"] += 1
        if here is not None and there is not None:
            counts["both_decide"] += 1
            if here != there:
                counts["disagree"] += 1
                who = "rlnorm" if here == right else "Math-Verify"
                print(f"{who} is right: {gold!a} <- {response!a}")
    print(dict(counts))
    result = {"counts": dict(counts), **conditions("math-verify", "sympy")}
    keep(result, RESULTS / "cross_check.json")


if __name__ == "__main__":
    main()
