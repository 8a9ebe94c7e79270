"""The plot of docs/performance_kernels.md: python benchmarks/plot_kernels.py RESULTS.json OUT.svg

Bars relative to eager, from the JSON that benchmarks/kernels.py leaves on a CPU.
"""

import json
import sys
from pathlib import Path

SHOWN = {
    "torch.compile": "torch.compile",
    "rlnorm cpp": "cpp token_stats",
    "rlnorm cpp callback": "cpp fused_policy_loss",
    "rlnorm chunked": "chunked token_stats",
    "liger scaled CE": "liger, torch fallback",
}
OURS, PEER, INK = "#0969da", "#afb8c1", "#1b1f24"
LEFT, PANEL, UNIT, TOP, ROW = 190, 168, 68, 86, 38
"""Pixels: the labels' column, a panel, the width of eager, the first bar, a row."""


def panel(x: int, title: tuple[str, str], shares: dict[str, float]) -> list[str]:
    """One column of bars under a title of two lines, with a dashed line at eager."""
    bottom = TOP + ROW * len(shares) - 2
    out = [
        f'<text x="{x}" y="54">{title[0]}</text><text x="{x}" y="70">{title[1]}</text>',
        f'<line x1="{x + UNIT}" x2="{x + UNIT}" y1="80" y2="{bottom}" stroke="#888" '
        'stroke-dasharray="3"/>',
    ]
    for i, (name, share) in enumerate(shares.items()):
        y, width = TOP + ROW * i, max(1, round(share * UNIT))
        color = OURS if name.startswith("rlnorm") else PEER
        out.append(f'<rect x="{x}" y="{y}" width="{width}" height="22" fill="{color}"/>')
        out.append(f'<text x="{x + width + 4}" y="{y + 16}" fill="{INK}">{share:.2f}</text>')
    return out


def draw(tables: list[dict]) -> str:
    """Time and memory of forward and backward, float32 and bfloat16."""
    shape = tables[0]["shape"]
    parts = [
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text x="20" y="24" font-size="15">CPU head, forward + backward, relative to eager '
        f"(t={shape['tokens']}, d={shape['hidden']}, v={shape['vocabulary']})</text>",
    ]
    parts += [
        f'<text x="20" y="{TOP + ROW * i + 16}">{label}</text>'
        for i, label in enumerate(SHOWN.values())
    ]
    columns = [("time,", "both_s"), ("peak memory,", "peak_bytes")]
    for i, (title, key) in enumerate(columns):
        for j, table in enumerate(tables):
            rows = table["rows"]
            shares = {name: rows[name][key] / rows["eager"][key] for name in SHOWN}
            parts += panel(LEFT + PANEL * (2 * i + j), (title, table["dtype"]), shares)
    size = f'width="{LEFT + 4 * PANEL}" height="{TOP + ROW * len(SHOWN) + 24}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(draw(json.loads(source.read_text())))
