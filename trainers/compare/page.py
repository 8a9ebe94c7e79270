"""The static page of a comparison: verdicts, forest plot, curves with bands, definitions."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from rlnorm.trainers.compare.results import Results, as_json, curve
from rlnorm.trainers.compare.tables import (
    as_markdown,
    cost_grid,
    definition_grid,
    reading,
    secondary_grids,
    verdict_grids,
)
from rlnorm.trainers.files import write_atomic
from rlnorm.trainers.record.html import figure_json, render
from rlnorm.trainers.record.run_dir import dump_config

EVALUATED = (
    ("avg@k", "sampled accuracy (avg@k)"),
    ("greedy", "greedy accuracy"),
    ("pass@k", "pass@k"),
)
TRAINED = (
    ("policy/entropy", "Entropy while training (nats per token)"),
    ("completion/tokens_mean", "Completion length while training (tokens)"),
    ("reward/mean", "Reward while training"),
)
BASELINE_COLOUR = "#24292f"
COLOURS = (
    "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#9a6700", "#1b7c83", "#bf3989",
)  # fmt: skip
"""With the legend and the hover text, most colour-blind readers can tell them apart."""


def write_reports(results: Results, folder: Path) -> Path:
    """Write the page and both summaries; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "summary.json", as_json(results))
    write_atomic(folder / "summary.md", as_markdown(results))
    page = folder / "comparison.html"
    write_atomic(page, comparison_page(results))
    return page


def comparison_page(results: Results) -> str:
    """`comparison.html`; it opens without a network."""
    evaluated = [
        (f"eval/{benchmark}/{key}", f"{benchmark}: {title}")
        for benchmark in results.problems
        for key, title in EVALUATED
    ]
    curves = (_curves(results, key, title) for key, title in (*evaluated, *TRAINED))
    return render(
        "comparison.html.j2",
        title=f"rlnorm compare {results.comparison.config.run_name}",
        verdicts=verdict_grids(results),
        reading=reading(results),
        forests=[_forest(results, benchmark) for benchmark in results.problems],
        curves=[figure for figure in curves if figure],
        tables=[*secondary_grids(results), cost_grid(results), definition_grid(results)],
        config=dump_config(results.comparison.config),
    )


def _forest(results: Results, benchmark: str) -> Markup:
    """Each algorithm's difference from the baseline, with the bootstrap interval as a thick bar and
    the t interval over seeds as a thin one."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = list(reversed(results.others))
    compared = [results.compared[benchmark, "sampled", a] for a in names]
    verdicts = [results.judged[benchmark, a].verdict for a in names]
    labels = [f"{a}: {word}" for a, word in zip(names, verdicts, strict=True)]
    middle = [100 * c.difference for c in compared]
    for title, bounds, width in (
        ("thin: 95 % t over seeds", [c.seed_interval for c in compared], 1),
        ("thick: 95 % bootstrap, seeds and problems", [c.interval for c in compared], 4),
    ):
        # with one seed there is no t interval: only the point is drawn
        known = [b or (c.difference, c.difference) for b, c in zip(bounds, compared, strict=True)]
        figure.add_scatter(
            x=middle,
            y=labels,
            mode="markers",
            name=title,
            marker={"size": 9, "color": BASELINE_COLOUR},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [100 * high - x for (_, high), x in zip(known, middle, strict=True)],
                "arrayminus": [x - 100 * low for (low, _), x in zip(known, middle, strict=True)],
                "thickness": width,
                "width": 0 if width > 1 else 5,
                "color": "#0969da" if width > 1 else "#59636e",
            },
        )
    figure.add_vline(x=0, line_color="#59636e", line_dash="dot")
    baseline = results.comparison.baseline
    title = f"{benchmark}: sampled accuracy minus that of {baseline} (points)"
    return figure_json(figure, title=title)


def _curves(results: Results, name: str, title: str) -> Markup:
    """One metric of every algorithm: the mean and the range over seeds; empty without values."""
    import plotly.graph_objects as go

    figure, colours = go.Figure(), iter(COLOURS * len(results.algorithms))
    for algorithm in results.algorithms:
        baseline = algorithm == results.comparison.baseline
        colour = BASELINE_COLOUR if baseline else next(colours)
        steps, by_step = curve(results, algorithm, name)
        if steps:
            _banded(figure, algorithm, steps, by_step, colour)
    if not figure.data:
        return Markup()
    return figure_json(figure, title=title, xaxis_title="step")


def _banded(
    figure: Any, algorithm: str, steps: list[int], by_step: list[list[float]], colour: str
) -> None:
    band = {"line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    fill = "rgba({},{},{},0.12)".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))
    low, high = [min(v) for v in by_step], [max(v) for v in by_step]
    figure.add_scatter(x=steps, y=low, mode="lines", legendgroup=algorithm, **band)
    figure.add_scatter(
        x=steps, y=high, mode="lines", fill="tonexty", fillcolor=fill, legendgroup=algorithm, **band
    )
    figure.add_scatter(
        x=steps,
        y=[sum(v) / len(v) for v in by_step],
        mode="lines+markers" if len(steps) < 30 else "lines",
        name=algorithm,
        legendgroup=algorithm,
        line={"color": colour, "width": 2},
    )
