"""`report.html`: one static page with the curves, the benchmarks and sample rollouts of a run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from markupsafe import Markup

from rlnorm.trainers.files import read_jsonl, write_atomic
from rlnorm.trainers.record.gains import benchmark_gains
from rlnorm.trainers.record.html import figure_json, render
from rlnorm.trainers.record.parts import parts_of
from rlnorm.trainers.record.run_dir import RunDir

CURVES = (
    ("Accuracy on benchmarks", ("eval/*/greedy", "eval/*/avg@k", "eval/*/pass@k")),
    ("Rewards", ("reward/mean", "reward/*")),
    ("Completion length (tokens)", ("completion/tokens_mean", "eval/*/tokens_mean")),
    ("Entropy (nats per token)", ("policy/entropy",)),
    ("Gradient norm before clipping", ("grad_norm",)),
    ("Sampler against learner, KL (nats per token)", ("policy/kl_sampler",)),
    ("Groups without a signal (share)", ("group/zero_signal_frac",)),
    ("Seconds per step", ("time/rollout_s", "time/reward_s", "time/learn_s", "time/sync_s")),
)
SAMPLES = 6


def write_report(run_dir: RunDir, title: str) -> Path:
    """Build the page from the files of the run directory."""
    rows = read_jsonl(run_dir.metrics)
    page = render(
        "report.html.j2",
        title=title,
        steps=len(rows) - 1,
        ends=parts_of(run_dir),
        warnings=run_dir.events_of("warning"),
        gains=benchmark_gains(run_dir.path),
        curves=[c for name, patterns in CURVES if (c := _curve(name, rows, patterns))],
        samples=_samples(run_dir.path),
        config=(run_dir.path / "config.yaml").read_text(),
    )
    write_atomic(run_dir.report, page)
    return run_dir.report


def matching(rows: Sequence[Mapping[str, Any]], pattern: str) -> list[str]:
    """Metric names that match a pattern, in which `*` stands for any text without a slash."""
    form = re.compile(re.escape(pattern).replace(r"\*", "[^/]*"))
    return [name for name in dict.fromkeys(n for row in rows for n in row) if form.fullmatch(name)]


def _curve(title: str, rows: Sequence[Mapping[str, Any]], patterns: Sequence[str]) -> Markup:
    """One figure; empty if the run has none of its metrics."""
    import plotly.graph_objects as go

    names = list(dict.fromkeys(n for p in patterns for n in matching(rows, p)))
    if not names:
        return Markup()
    figure = go.Figure()
    for name in names:
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        mode = "lines+markers" if len(points) < 30 else "lines"
        x, y = [step for step, _ in points], [value for _, value in points]
        figure.add_scatter(x=x, y=y, name=name, mode=mode)
    return figure_json(figure, title=title, xaxis_title="step")


def _samples(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Rollouts of the first and of the last step: one from each of a few groups."""
    files = sorted((folder / "rollouts").glob("step_*.parquet"))
    samples = {}
    for path in files[:1] + files[1:][-1:]:
        first = {r["group_index"]: r for r in reversed(pq.read_table(path).to_pylist())}
        rows = [first[group] for group in sorted(first)[:SAMPLES]]
        samples[int(path.stem.removeprefix("step_"))] = [
            {**row, "rewards": _rewards(row)} for row in rows
        ]
    return samples


def _rewards(row: Mapping[str, Any]) -> str:
    named = {n.removeprefix("reward/"): v for n, v in row.items() if n.startswith("reward/")}
    named["advantage"] = row["advantage"]
    return "\n".join(
        f"{n} {'failed' if v is None or v != v else f'{v:.3g}'}" for n, v in named.items()
    )
