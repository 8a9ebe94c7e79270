"""Numbers of finished runs: verdicts of the last evaluation, curves, checks of the pairing."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.statistics import Judgement, PairedComparison, judge, paired_comparison
from rlnorm.trainers.compare.rows import changed_parts
from rlnorm.trainers.compare.runs import Comparison, Outcome, Run, read_history
from rlnorm.trainers.config.resolve import build_algorithm
from rlnorm.trainers.files import finite, read_jsonl
from rlnorm.trainers.record.verdicts import accuracy

MEASURES = ("sampled", "greedy", "pass@k")
"""Verdicts are based on sampled (avg@k); the other two are only shown."""
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Everything the table, the page and the files show."""

    comparison: Comparison
    algorithms: tuple[str, ...]
    """Algorithms whose every seed finished, in the requested order."""
    left_out: dict[str, str]
    """Algorithm -> why it is not compared."""
    problems: dict[str, int]
    """Benchmark -> number of problems."""
    accuracy: dict[tuple[str, str, str], list[float]]
    """(benchmark, measure, algorithm) -> mean of each seed."""
    compared: dict[tuple[str, str, str], PairedComparison]
    """The same keys without those of the baseline."""
    judged: dict[tuple[str, str], Judgement]
    """(benchmark, algorithm) -> verdict on sampled accuracy, Holm-corrected over all of them."""
    metrics: dict[tuple[str, int], list[dict[str, Any]]]
    """(algorithm, seed) -> rows of metrics.jsonl."""
    pairing: dict[str, float]
    """Share of values that are equal between runs of the same seed, as they should be."""
    definitions: dict[str, dict[str, Any]]
    """Algorithm -> every stage with every option."""
    changes: dict[str, list[str]]
    """Algorithm -> the parts in which it differs from the baseline; empty for the baseline."""
    history: list[dict[str, Any]]

    @property
    def others(self) -> tuple[str, ...]:
        """Compared algorithms, without the baseline."""
        return tuple(name for name in self.algorithms if name != self.comparison.baseline)


def collect_results(comparison: Comparison, outcome: Outcome) -> Results:
    """Read the finished runs and compare each algorithm with the baseline.

    An algorithm that lacks a seed is left out, because which seeds fail may depend on the
    algorithm.
    """
    done = {(run.algorithm, run.seed): run for run in outcome.finished}
    complete = tuple(
        a for a in comparison.algorithms if all((a, s) in done for s in comparison.seeds)
    )
    left_out = {
        a: next(why for name, why in outcome.failures.items() if name.startswith(f"{a}, "))
        for a in comparison.algorithms
        if a not in complete
    }
    tables = {
        (benchmark, measure, a): table
        for benchmark in comparison.config.data.eval
        for a in complete
        for measure, table in _tables([done[a, s] for s in comparison.seeds], benchmark).items()
    }
    compared = {
        key: paired_comparison(table, tables[key[0], key[1], comparison.baseline], level=1 - ALPHA)
        for key, table in tables.items()
        if comparison.baseline in complete and key[2] != comparison.baseline
    }
    family = {(b, a): c for (b, measure, a), c in compared.items() if measure == "sampled"}
    definitions = {
        a: build_algorithm(comparison.run_config(a, comparison.seeds[0])).describe()
        for a in dict.fromkeys((*complete, comparison.baseline))
    }
    return Results(
        comparison=comparison,
        algorithms=complete,
        left_out=left_out,
        problems={b: t.shape[1] for (b, _, _), t in tables.items()},
        accuracy={key: table.nanmean(dim=1).tolist() for key, table in tables.items()},
        compared=compared,
        judged=judge(family, alpha=ALPHA, power=POWER) if family else {},
        metrics={
            (a, s): read_jsonl(done[a, s].path / "metrics.jsonl")
            for a in complete
            for s in comparison.seeds
        },
        pairing=check_pairing(comparison, complete, done),
        definitions={a: definitions[a] for a in complete},
        changes={
            a: changed_parts(definitions[a], definitions[comparison.baseline]) for a in complete
        },
        history=read_history(comparison),
    )


def _tables(runs: Sequence[Run], benchmark: str) -> dict[str, Float[Tensor, "seeds problems"]]:
    """Accuracies of the last evaluation by measure; NaN for a problem without a verdict."""
    rows = [_verdicts(run, run.config.steps, benchmark) for run in runs]
    ids = [row["id"] for row in rows[0]]
    by_id = [{row["id"]: row for row in seed} for seed in rows]
    return {
        measure: torch.tensor(
            [[accuracy(seed[i], measure) for i in ids] for seed in by_id], dtype=torch.float64
        )
        for measure in MEASURES
    }


def _verdicts(run: Run, step: int, benchmark: str) -> list[dict[str, Any]]:
    rows = read_jsonl(run.path / "eval" / f"step_{step:06d}" / f"{benchmark}.jsonl")
    return sorted(rows, key=lambda row: str(row["id"]))


def check_pairing(
    comparison: Comparison, algorithms: Sequence[str], done: Mapping[tuple[str, int], Run]
) -> dict[str, float]:
    """How much each run shares with the first algorithm's run of the same seed.

    Before the first update everything should be equal: 1.0 on an engine whose results are
    reproducible bit for bit.
    """
    initial, prompts, rollouts = [], [], []
    for seed in comparison.seeds:
        runs = [done[a, seed] for a in algorithms]
        firsts = [_first_rollouts(run.path) for run in runs]
        evals = [[_verdicts(run, 0, b) for b in comparison.config.data.eval] for run in runs]
        for other, first in zip(evals[1:], firsts[1:], strict=True):
            initial.append(float(other == evals[0]))
            prompts.append(_shared({k[0] for k in first}, {k[0] for k in firsts[0]}))
            rollouts.append(_shared(set(first.items()), set(firsts[0].items())))
    return {
        "initial_evaluations_equal": _mean(initial),
        "first_step_prompts_shared": _mean(prompts),
        "first_step_rollouts_equal": _mean(rollouts),
    }


def _first_rollouts(path: Path) -> dict[tuple[str, str], tuple[int, ...]]:
    """(prompt, rollout) -> token ids, for the rollouts of the first step that train."""
    import pyarrow.parquet as pq

    columns = ["prompt_id", "rollout_id", "role", "token_ids"]
    table = pq.read_table(path / "rollouts" / "step_000001.parquet", columns=columns)
    return {
        (row["prompt_id"], row["rollout_id"]): tuple(row["token_ids"])
        for row in table.to_pylist()
        if row["role"] == "train"
    }


def _shared(one: set[Any], two: set[Any]) -> float:
    """Share of the smaller set, as algorithms may sample more rollouts (a pivot) or drop prompts
    (resampling)."""
    return len(one & two) / max(1, min(len(one), len(two)))


def curve(results: Results, algorithm: str, name: str) -> tuple[list[int], list[list[float]]]:
    """The steps at which every seed has the metric, and at each step the values of all seeds."""
    runs = [results.metrics[algorithm, s] for s in results.comparison.seeds]
    seeds = [{r["step"]: r[name] for r in rows if r.get(name) is not None} for rows in runs]
    steps = sorted(set.intersection(*(set(seed) for seed in seeds)))
    return steps, [[seed[step] for seed in seeds] for step in steps]


def cost(results: Results, algorithm: str) -> dict[str, float]:
    """Means over seeds: seconds of training steps, tokens trained on, optimizer steps skipped."""
    names = {"time/step_s": "step_s", "tokens": "tokens", "learner/skipped_steps": "skipped_steps"}
    runs = [results.metrics[algorithm, s] for s in results.comparison.seeds]
    return {
        label: _mean([sum(row.get(name, 0.0) for row in rows) for rows in runs])
        for name, label in names.items()
    }


def as_json(results: Results) -> str:
    """`summary.json`: every number behind the table and the forest plot."""
    comparison = results.comparison
    benchmarks: dict[str, Any] = {}
    for (benchmark, measure, a), by_seed in results.accuracy.items():
        entry = benchmarks.setdefault(
            benchmark, {"problems": results.problems[benchmark], "algorithms": {}}
        )["algorithms"].setdefault(a, {})
        entry[measure] = {"mean": _mean(by_seed), "by_seed": by_seed}
        if (compared := results.compared.get((benchmark, measure, a))) is not None:
            entry[measure]["against_baseline"] = asdict(compared)
        if (judged := results.judged.get((benchmark, a))) is not None:
            entry["judgement"] = asdict(judged)
    table = {
        "baseline": comparison.baseline,
        "seeds": list(comparison.seeds),
        "steps": comparison.config.steps,
        "samples_per_problem": comparison.config.eval_samples,
        "alpha": ALPHA,
        "power": POWER,
        "benchmarks": benchmarks,
        "left_out": results.left_out,
        "pairing": results.pairing,
        "cost": {a: cost(results, a) for a in results.algorithms},
        "changes": results.changes,
        "definitions": results.definitions,
        "history": results.history,
        "config": comparison.config.model_dump(mode="json"),
    }
    return json.dumps(finite(table), indent=1, allow_nan=False) + "\n"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
