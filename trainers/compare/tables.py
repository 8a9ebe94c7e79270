"""The tables of a comparison: for the terminal, for `summary.md` and for the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, stdev
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rlnorm.statistics import minimum_detectable_effect
from rlnorm.trainers.compare.results import ALPHA, MEASURES, POWER, Results, cost

Rows = list[tuple[str, ...]]
PLANNED_SEEDS = (5, 10, 20)
WIDE_COLUMNS = ("changes", "greedy", "pass@k", "95 % bootstrap", "p (Holm)", "detectable")
"""Left out on a terminal that is too narrow; the page shows them."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as plain text, for every output format."""

    title: str
    header: tuple[str, ...]
    rows: Rows


def print_table(results: Results, console: Console) -> None:
    """Print the verdict tables and how to read them."""
    for grid in verdict_grids(results):
        table = _table(grid, grid.header)
        if table.__rich_measure__(console, console.options).maximum > console.width:
            table = _table(grid, [name for name in grid.header if name not in WIDE_COLUMNS])
        console.print(table)
    for line in reading(results):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(grid: Grid, columns: Sequence[str]) -> Table:
    table = Table(title=grid.title, title_justify="left", box=SIMPLE, pad_edge=False)
    shown = [grid.header.index(name) for name in columns]
    for index in shown:
        side = index in (0, len(grid.header) - 1)
        table.add_column(grid.header[index], justify="left" if side else "right", no_wrap=not side)
    for row in grid.rows:
        table.add_row(*(row[index] for index in shown))
    return table


def verdict_grids(results: Results) -> list[Grid]:
    """One table per benchmark: each algorithm's accuracy and its difference from the baseline."""
    header = (
        "algorithm", "sampled", "greedy", "pass@k",
        "difference", "95 % bootstrap", "95 % t, seeds", "p (Holm)", "detectable",
        "changes", "verdict",
    )  # fmt: skip
    return [
        Grid(
            f"{benchmark}: {problems} problems, {count(len(results.comparison.seeds), 'seed')}, "
            f"k = {results.comparison.config.eval_samples}; percent, and points against "
            f"{results.comparison.baseline}",
            header,
            [_verdict_row(results, benchmark, a) for a in results.algorithms],
        )
        for benchmark, problems in results.problems.items()
    ]


def _verdict_row(results: Results, benchmark: str, algorithm: str) -> tuple[str, ...]:
    changes = ", ".join(results.changes[algorithm]) or "-"
    row = (algorithm, *(mean_sd(results.accuracy[benchmark, m, algorithm]) for m in MEASURES))
    judged = results.judged.get((benchmark, algorithm))
    if judged is None:
        return (*row, "", "", "", "", "", changes, "baseline")
    compared = results.compared[benchmark, "sampled", algorithm]
    return (
        *row,
        points(compared.difference),
        interval(compared.interval),
        interval(compared.seed_interval),
        _p(judged.p_adjusted),
        _size(judged.detectable),
        changes,
        judged.verdict,
    )


def secondary_grids(results: Results) -> list[Grid]:
    """Differences in greedy accuracy and pass@k, without verdicts."""
    return [
        Grid(
            f"{benchmark}: {measure} minus that of {results.comparison.baseline}, points; "
            "not judged",
            ("algorithm", "difference", "95 % bootstrap", "95 % t, seeds", "by seed"),
            [
                (
                    a,
                    points(c.difference),
                    interval(c.interval),
                    interval(c.seed_interval),
                    ", ".join(points(d) for d in c.seed_differences),
                )
                for a in results.others
                for c in [results.compared[benchmark, measure, a]]
            ],
        )
        for benchmark in results.problems
        for measure in MEASURES[1:]
    ]


def definition_grid(results: Results) -> Grid:
    """The stages of each algorithm, with all options and defaults."""
    rows = []
    for name, slots in results.definitions.items():
        size = results.comparison.config.rollout.group_size
        plan = {"group_size": size, **slots["sample_plan"]}
        stages = [
            "; ".join(_stage(s) for s in _listed(slots[slot])) or "none"
            for slot in ("estimator", "modulators", "loss", "aggregate", "regularizers")
        ]
        rows.append((name, *stages, ", ".join(f"{k}={v}" for k, v in plan.items())))
    header = ("name", "estimator", "modulators", "loss", "aggregate", "regularizers", "sampling")
    return Grid("Definitions", header, rows)


def cost_grid(results: Results) -> Grid:
    """Time and tokens that each algorithm spent, mean over seeds."""
    spent = {a: cost(results, a) for a in results.algorithms}
    rows: Rows = [
        (a, f"{c['step_s']:.1f}", f"{c['tokens']:,.0f}", f"{c['skipped_steps']:g}")
        for a, c in spent.items()
    ]
    header = ("name", "seconds of steps", "tokens of rollouts", "optimizer steps skipped")
    return Grid("Cost, mean over seeds", header, rows)


def reading(results: Results) -> list[str]:
    """What the numbers can and cannot show, in sentences."""
    comparison, n = results.comparison, len(results.comparison.seeds)
    lines = [
        "'changes' names all that a row has of its own: everything else, such as the aggregation, "
        f"the clip and the weights of the rewards, is as in {comparison.baseline}.",
        f"Verdicts concern sampled accuracy after {comparison.config.steps} steps; family-wise "
        f"error {ALPHA:.0%} over {count(len(results.judged), 'comparison')} (Holm); the two-level "
        "bootstrap and the t test over seeds must agree.",
        "'not distinguishable' does not mean equal: differences below 'detectable' are detected "
        f"less than {POWER:.0%} of the time.",
    ]
    if n == 1:
        lines.append("One seed says nothing about other seeds, so no verdict is possible.")
    elif sizes := [j.detectable for j in results.judged.values()]:
        many = "very few" if n < 5 else "few" if n < 10 else "a fair number"
        lines.append(
            f"{n} seeds are {many}: a true difference must be {_range(sizes)} points to be "
            "detected. "
            f"{_planned(results)}"
        )
    histories = [(len(h["algorithms"]), len(h["seeds"])) for h in results.history]
    if len(histories) > 1:
        steps = ", then ".join(f"{a} algorithms x {s} seeds" for a, s in histories)
        lines.append(
            f"This comparison was extended after it began ({steps}): p-values do not account for "
            "looking at results in between."
        )
    lines += [f"{a} is left out because a run failed: {why}" for a, why in results.left_out.items()]
    if any(share < 1 for share in results.pairing.values()):
        shares = ", ".join(f"{k.replace('_', ' ')} {v:.1%}" for k, v in results.pairing.items())
        lines.append(f"The pairing before the first update is not exact: {shares}.")
    else:
        lines.append(
            "Runs of one seed were checked to start alike: equal first evaluations, prompts and "
            "rollouts of the first step."
        )
    return lines


def _planned(results: Results) -> str:
    """The smallest difference that more seeds could detect, from the median spread of seeds."""
    judged = [results.compared[b, "sampled", a] for b, a in results.judged]
    spread = median(c.seed_error * math.sqrt(c.seeds) for c in judged)
    alpha, now = ALPHA / len(judged), len(results.comparison.seeds)
    sizes = [
        f"{s} seeds {_size(minimum_detectable_effect(spread / math.sqrt(s), s, alpha=alpha))}"
        for s in PLANNED_SEEDS
        if s > now
    ]
    best = f"; with it, more seeds would detect at best: {', '.join(sizes)} points" if sizes else ""
    return f"The median spread of the difference between seeds is {_size(spread)} points{best}."


def as_markdown(results: Results) -> str:
    """`summary.md`."""
    config = results.comparison.config
    rollout = config.rollout
    sources = " and ".join(f"`{s.source}`" for s in config.data.train_sources().values())
    parts = [
        f"# Comparison `{config.run_name}`",
        f"Model `{config.model.path}`, trained on {sources}, {config.steps} steps of "
        f"{rollout.prompts_per_step} prompts x {rollout.group_size} rollouts; seeds "
        f"{', '.join(map(str, results.comparison.seeds))}; baseline "
        f"`{results.comparison.baseline}`.",
        *(_markdown(grid) for grid in verdict_grids(results)),
        "sampled (avg@k), greedy, pass@k: mean ± standard deviation over seeds.",
        "\n".join(f"- {line}" for line in reading(results)),
        *(_markdown(grid) for grid in (*secondary_grids(results), cost_grid(results))),
        _markdown(definition_grid(results)),
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(grid: Grid) -> str:
    lines = [grid.header, tuple("---" for _ in grid.header), *grid.rows]
    body = "\n".join(f"| {' | '.join(c.replace('|', '/') for c in row)} |" for row in lines)
    return f"**{grid.title}**\n\n{body}"


def mean_sd(by_seed: Sequence[float]) -> str:
    """Percent, with the standard deviation over seeds where there are several."""
    mean = sum(by_seed) / len(by_seed)
    spread = f" ± {100 * stdev(by_seed):.1f}" if len(by_seed) > 1 else ""
    return f"{100 * mean:.1f}{spread}"


def points(value: float) -> str:
    """A signed difference in points of accuracy."""
    return f"{100 * value:+.1f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """Both bounds in points."""
    return "-" if bounds is None else f"[{points(bounds[0])}, {points(bounds[1])}]"


def _size(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else "none"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _range(sizes: Sequence[float]) -> str:
    low, high = _size(min(sizes)), _size(max(sizes))
    return low if low == high else f"{low} to {high}"


def count(number: int, noun: str) -> str:
    """1 seed, 2 seeds."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(slot: Any) -> list[dict[str, Any]]:
    return slot if isinstance(slot, list) else [slot]


def _stage(stage: dict[str, Any]) -> str:
    options = ", ".join(f"{k}={v}" for k, v in stage.items() if k != "name")
    return f"{stage['name']}({options})" if options else str(stage["name"])
