"""The static page of a comparison: verdicts, forest plot, curves with bands, definitions."""

import html
from pathlib import Path
from typing import Any

from rlnorm.trainers.compare.results import Results, curve
from rlnorm.trainers.compare.tables import (
    Grid,
    cost_grid,
    definition_grid,
    grid_html,
    reading,
    secondary_grids,
    verdict_grids,
)
from rlnorm.trainers.files import write_atomic
from rlnorm.trainers.record.report import figure_html, page
from rlnorm.trainers.record.run_dir import dump_config

EVALUATED = (
    ("avg@k", "sampled accuracy (avg@k)"),
    ("greedy", "greedy accuracy"),
    ("pass@k", "pass@k"),
)
TRAINED = (
    ("policy/entropy", "Entropy while training (nats a token)"),
    ("completion/tokens_mean", "Completion length while training (tokens)"),
    ("reward/mean", "Reward while training"),
)
BASELINE_COLOUR = "#24292f"
COLOURS = (
    "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#9a6700", "#1b7c83", "#bf3989",
)  # fmt: skip
"""Told apart by most colour-blind readers when legend and hover text are used too."""


def write_page(results: Results, path: Path) -> Path:
    """`comparison.html`; it opens without a network."""
    name = f"rlnorm compare {results.comparison.config.run_name}"
    parts = [
        f"<h1>{html.escape(name)}</h1>",
        *(grid_html(grid) for grid in verdict_grids(results)),
        "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in reading(results)) + "</ul>",
        *(_forest(results, benchmark) for benchmark in results.problems),
        "<h2>Curves</h2>",
        '<p class="muted">Line: mean over seeds. Band: from the lowest seed to the highest.</p>',
        '<div class="grid">',
        *(
            _curves(results, f"eval/{benchmark}/{key}", f"{benchmark}: {title}")
            for benchmark in results.problems
            for key, title in EVALUATED
        ),
        *(_curves(results, key, title) for key, title in TRAINED),
        "</div>",
        *(grid_html(grid) for grid in (*secondary_grids(results), cost_grid(results))),
        _wide(definition_grid(results)),
        f"<h2>Config</h2><pre>{html.escape(dump_config(results.comparison.config))}</pre>",
    ]
    write_atomic(path, page(name, parts))
    return path


def _forest(results: Results, benchmark: str) -> str:
    """Each algorithm's difference: thick the bootstrap interval, thin the t interval over seeds."""
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
        # one seed has no t interval: the point alone
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
    figure.update_layout(
        title=f"{benchmark}: sampled accuracy less {results.comparison.baseline}'s (points)"
    )
    return f"<div>{figure_html(figure)}</div>"


def _curves(results: Results, name: str, title: str) -> str:
    """One metric of every algorithm: mean over seeds with the range of seeds."""
    import plotly.graph_objects as go

    figure, colours = go.Figure(), iter(COLOURS * len(results.algorithms))
    for algorithm in results.algorithms:
        baseline = algorithm == results.comparison.baseline
        colour = BASELINE_COLOUR if baseline else next(colours)
        steps, by_step = curve(results, algorithm, name)
        if steps:
            _banded(figure, algorithm, steps, by_step, colour)
    if not figure.data:
        return ""
    figure.update_layout(title=title, xaxis_title="step")
    return f"<div>{figure_html(figure)}</div>"


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


def _wide(grid: Grid) -> str:
    return f'<div style="overflow-x:auto;font-size:13px">{grid_html(grid)}</div>'
