"""Throughput of the math verifier against math-verify and, where installed, verl and TRL.

    python benchmarks/rewards.py [--rows 4000] [--workers 2] [--memory-scores 100000]

Typical rows are worked GSM8K-style responses of 60 to 200 words, half of them right, in five answer
spellings. Bombs are one row in 20. Everything is measured in one run, on the same rows. Writes
benchmarks/results/rewards.json.
"""

# ruff: noqa: E402
import sys
from pathlib import Path

# this file is named like the package it measures: its own folder must not be searched
sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import asyncio
import importlib
import json
import random
import time
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory

import psutil

from benchmarks.record import RESULTS, conditions, keep
from rlnorm.rewards.grade import grade
from rlnorm.rewards.math.compare import Policy
from rlnorm.rewards.math.reward import MathVerifier
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.pool import WorkerPool

Row = tuple[str, str]
_BOMBS = (
    "\\boxed{9^{9^{9}}}",
    "\\boxed{1000000!}",
    "\\boxed{\\binom{1000000000}{500000000}}",
    "\\boxed{" + "1" * 100_000 + "}",
    "\\boxed{" + "\\sqrt{" * 400 + "2" + "}" * 400 + "}",
    "\\boxed{" + ",".join(["1"] * 20_000) + "}",
    "\\boxed{\\gcd(2^{5000000}-1, 2^{4000000}-1)}",
    "step " * 40_000 + "so the answer is \\boxed{41}",
    "$" * 40_000,
    "\\boxed{\\sum_{k=1}^{1000000000} \\frac{1}{k}}",
)
_ENDINGS = (
    "\\boxed{{{0}}}",
    "The answer is {0}.",
    "#### {0}",
    "$\\boxed{{{0}}}$.",
    "**Answer:** {0}",
)


def typical_rows(count: int, seed: int = 0) -> list[Row]:
    """Worked responses to small sums; nothing is read from disk."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        total, lines = rng.randint(2, 60), []
        for step in range(rng.randint(3, 9)):
            change = rng.randint(2, 90)
            lines.append(
                f"Step {step + 1}: she starts with {total} and buys {change} more at the shop, so"
                f" now there are {total} + {change} = <<{total}+{change}={total + change}>>"
                f"{total + change} clips in the box."
            )
            total += change
        said = total if rng.random() < 0.5 else total + rng.randint(1, 9)
        shown = f"{said:,}" if rng.random() < 0.2 else str(said)
        rows.append((str(total), "\n".join(lines) + "\n" + rng.choice(_ENDINGS).format(shown)))
    return rows


def with_bombs(rows: Sequence[Row]) -> list[Row]:
    """Every twentieth row replaced by a bomb."""
    return [
        (gold, _BOMBS[i // 20 % len(_BOMBS)] if i % 20 == 0 else pred)
        for i, (gold, pred) in enumerate(rows)
    ]


def rate(score: Callable[[Sequence[Row]], object], rows: Sequence[Row]) -> float:
    """Rows a second."""
    start = time.perf_counter()
    score(rows)
    return len(rows) / (time.perf_counter() - start)


def one_process(rows: Sequence[Row]) -> None:
    """Layers 1 to 3 in this process."""
    for gold, pred in rows:
        verify(gold, pred)


def scorer_rate(rows: Sequence[Row], workers: int) -> float:
    """The asynchronous verifier with its pool, as a training step uses it; workers are warm."""

    async def run() -> float:
        pool = WorkerPool(workers, deadline_s=2.0)
        verifier = MathVerifier(pool)
        await verifier.verify([("\\frac12", "\\boxed{\\int_0^1 x dx}", Policy())])
        start = time.perf_counter()
        await verifier.verify([(gold, pred, Policy()) for gold, pred in rows])
        spent = time.perf_counter() - start
        await asyncio.to_thread(pool.close)
        return len(rows) / spent

    return asyncio.run(run())


def grade_rate(rows: Sequence[Row], workers: int) -> float:
    """`rlnorm grade` from file to file, worker start included."""
    with TemporaryDirectory() as folder:
        cases = Path(folder) / "cases.jsonl"
        with cases.open("w") as f:
            for i, (gold, pred) in enumerate(rows):
                f.write(json.dumps({"id": i, "gold": gold, "pred": pred}) + "\n")
        report = grade(cases, Path(folder) / "out.jsonl", workers, show=False)
        return report.rows / report.seconds


def math_verify_rows(rows: Sequence[Row]) -> None:
    """math-verify with its defaults: parse both, verify."""
    from math_verify import parse
    from math_verify import verify as equal

    for gold, pred in rows:
        equal(parse(f"${gold}$"), parse(pred))


def peers() -> dict[str, Callable[[Sequence[Row]], object]]:
    """The other libraries that are installed here."""
    found: dict[str, Callable[[Sequence[Row]], object]] = {"math-verify": math_verify_rows}
    for name, module, attribute in (
        ("verl math_reward", "verl.utils.reward_score.math_reward", "compute_score"),
        ("verl math_dapo", "verl.utils.reward_score.math_dapo", "compute_score"),
    ):
        try:
            score = getattr(importlib.import_module(module), attribute)
        except ImportError:
            print(f"{name}: not installed, left out")
            continue
        found[name] = lambda rows, score=score: [score(pred, gold) for gold, pred in rows]
    try:
        accuracy = importlib.import_module("trl.rewards").accuracy_reward
    except ImportError:
        print("TRL accuracy_reward: not installed, left out")
    else:
        found["TRL accuracy_reward"] = lambda rows: accuracy(
            [[{"role": "assistant", "content": pred}] for _, pred in rows],
            [f"${gold}$" for gold, _ in rows],
        )
    return found


def memory_growth(count: int) -> tuple[float, float]:
    """RSS in MB after a tenth of the scores and after all of them; every row is different."""
    process, marks = psutil.Process(), []
    for tenth in range(10):
        one_process(typical_rows(count // 10, seed=tenth + 1))
        if tenth in (0, 9):
            marks.append(process.memory_info().rss / 2**20)
    return marks[0], marks[1]


def main() -> None:
    """Print one line a measurement and keep all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory-scores", type=int, default=100_000)
    args = parser.parse_args()
    rows = typical_rows(args.rows)
    one_process(rows[:200])
    rates = {"one process": rate(one_process, rows)}
    rates["scorer"] = scorer_rate(rows, args.workers)
    rates["scorer, 1 bomb in 20"] = scorer_rate(with_bombs(rows), args.workers)
    rates["scorer again"] = scorer_rate(rows, args.workers)
    rates["grade"] = grade_rate(typical_rows(10 * args.rows, seed=7), args.workers)
    few = rows[: max(50, args.rows // 20)]
    for name, score in peers().items():
        score(few[:5])
        rates[name] = rate(score, few)
    for name, speed in rates.items():
        slower = rates["one process"] / speed
        print(f"{name}: {speed:,.0f} verdicts/s; one process does {slower:.3g} times that")
    first, last = memory_growth(args.memory_scores)
    print(f"memory: {first:.1f} MB after 10 %, {last:.1f} MB after {args.memory_scores:,} scores")
    found = {"workers": args.workers, "verdicts_per_s": rates, "memory_mb": [first, last]}
    keep(conditions("math-verify", "verl", "trl") | found, RESULTS / "rewards.json")


if __name__ == "__main__":
    main()
