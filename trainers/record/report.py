"""`report.html`: one static page with the curves, the benchmarks and sample rollouts of a run."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rlnorm.trainers.files import read_jsonl, write_atomic
from rlnorm.trainers.record.gains import benchmark_gains
from rlnorm.trainers.record.run_dir import RunDir

CURVES = (
    ("Accuracy on benchmarks", ("eval/*/greedy", "eval/*/avg@k", "eval/*/pass@k")),
    ("Rewards", ("reward/mean", "reward/*")),
    ("Completion length (tokens)", ("completion/tokens_mean", "eval/*/tokens_mean")),
    ("Entropy (nats a token)", ("policy/entropy",)),
    ("Gradient norm before clipping", ("grad_norm",)),
    ("Sampler against learner, KL (nats a token)", ("policy/kl_sampler",)),
    ("Groups that teach nothing (share)", ("group/zero_signal_frac",)),
    ("Seconds a step", ("time/rollout_s", "time/reward_s", "time/learn_s", "time/sync_s")),
)
SAMPLES = 6
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff; }
h1 { margin-bottom: 0; } .muted { color: #59636e; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: .3rem .8rem;
        border-bottom: 1px solid #d1d9e0; text-align: left; vertical-align: top; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; margin: 0; font-size: 13px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 1rem; }
.grid > div { min-width: 0; }
"""


def write_report(run_dir: RunDir, title: str) -> Path:
    """Build the page from what the run directory holds; it opens without a network."""
    rows = read_jsonl(run_dir.metrics)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="muted">{len(rows) - 1} steps; all numbers are in metrics.jsonl.</p>',
        _benchmark_table(run_dir.path),
        '<div class="grid">',
        *(_curve(name, rows, patterns) for name, patterns in CURVES),
        "</div>",
        _samples(run_dir.path),
        "<h2>Config</h2><pre>" + html.escape((run_dir.path / "config.yaml").read_text()) + "</pre>",
    ]
    write_atomic(run_dir.report, page(title, parts))
    return run_dir.report


def page(title: str, parts: Sequence[str]) -> str:
    """A self-contained HTML page; plotly is written into it once."""
    from plotly.offline import get_plotlyjs

    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>{''.join(parts)}"
        # the first figures are drawn before the page knows its columns
        "<script>addEventListener('load', () => dispatchEvent(new Event('resize')))</script>"
        "</body></html>"
    )


def figure_html(figure: Any) -> str:
    """A plotly figure as a fragment of a page made by `page`."""
    figure.update_layout(
        height=340,
        margin={"l": 50, "r": 10, "t": 50, "b": 40},
        legend={"orientation": "h", "y": -0.2},
        template="plotly_white",
    )
    config = {"responsive": True, "displayModeBar": False}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=config))


def matching(rows: Sequence[Mapping[str, Any]], pattern: str) -> list[str]:
    """Metric names that fit a pattern whose one `*` stands for a single path part."""
    names = dict.fromkeys(name for row in rows for name in row)
    if "*" not in pattern:
        return [pattern] if pattern in names else []
    before, after = pattern.split("*")
    return [
        n
        for n in names
        if n.startswith(before)
        and n.endswith(after)
        and "/" not in n[len(before) : len(n) - len(after)]
    ]


def _curve(title: str, rows: Sequence[Mapping[str, Any]], patterns: Sequence[str]) -> str:
    import plotly.graph_objects as go

    names = list(dict.fromkeys(n for p in patterns for n in matching(rows, p)))
    if not names:
        return ""
    figure = go.Figure()
    for name in names:
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        mode = "lines+markers" if len(points) < 30 else "lines"
        x, y = [step for step, _ in points], [value for _, value in points]
        figure.add_scatter(x=x, y=y, name=name, mode=mode)
    figure.update_layout(title=title, xaxis_title="step")
    return f"<div>{figure_html(figure)}</div>"


def _benchmark_table(folder: Path) -> str:
    gains = benchmark_gains(folder)
    if not gains:
        return ""
    body = "".join(
        f"<tr><td>{html.escape(g.benchmark)}</td><td>{g.measure}</td>"
        f'<td class="n">{g.before:.1%}</td><td class="n">{g.after:.1%}</td>'
        f'<td class="n">{100 * (g.after - g.before):+.1f}</td>'
        f'<td class="n">{100 * g.interval[0]:+.1f} to {100 * g.interval[1]:+.1f}</td>'
        f'<td class="n">{g.problems}</td></tr>'
        for g in gains
    )
    heads = ("benchmark", "", "before", "after", "points", "95% interval", "problems")
    return (
        f"<h2>Benchmarks</h2><table><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr>{body}"
        '</table><p class="muted">Intervals resample the problems, each paired with itself; what '
        "another seed would have trained they do not show: <code>rlnorm compare</code> does.</p>"
    )


def _samples(folder: Path) -> str:
    files = sorted((folder / "rollouts").glob("step_*.parquet"))
    if not files:
        return ""
    parts = ["<h2>Sample rollouts</h2>"]
    for path in dict.fromkeys([files[0], files[-1]]):
        # one rollout of each of a few groups says more than one group whole
        first = {r["group_index"]: r for r in reversed(pq.read_table(path).to_pylist())}
        rows = [first[group] for group in sorted(first)[:SAMPLES]]
        cells = "".join(
            f"<tr><td><pre>{html.escape(r['prompt'])}</pre></td>"
            f"<td><pre>{html.escape(r['text'])}</pre></td><td>{html.escape(r['answer'])}</td>"
            f"<td><pre>{html.escape(_rewards(r))}</pre></td></tr>"
            for r in rows
        )
        step = int(path.stem.removeprefix("step_"))
        parts.append(
            f"<h3>Step {step}</h3><table><tr><th>prompt</th><th>completion</th>"
            f"<th>answer</th><th>rewards</th></tr>{cells}</table>"
        )
    return "".join(parts)


def _rewards(row: Mapping[str, Any]) -> str:
    named = {n.removeprefix("reward/"): v for n, v in row.items() if n.startswith("reward/")}
    named["advantage"] = row["advantage"]
    return "\n".join(
        f"{n} {'failed' if v is None or v != v else f'{v:.3g}'}" for n, v in named.items()
    )
