"""`rlnorm estimators`: the named algorithms as tables."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlnorm.named_algorithms import ALGORITHMS, named_algorithm

SLOTS = (
    "sample_plan",
    "shaping",
    "estimator",
    "modulators",
    "loss",
    "aggregate",
    "regularizers",
    "selector",
    "correction",
)


def print_algorithms(console: Console) -> None:
    """One row per algorithm: summary, paper and stages."""
    table = Table(title="algorithm: NAME in a config; any slot can be overridden", show_lines=True)
    for name in ("name", "what it is", "source", "stages"):
        table.add_column(name, overflow="fold")
    for name, spec in ALGORITHMS.items():
        table.add_row(name, spec.summary, spec.paper, _stages(name))
    console.print(table)
    console.print("options and defaults of one: rlnorm estimators NAME", style="dim")


def print_algorithm(console: Console, name: str) -> None:
    """Every slot of one algorithm with its options and defaults."""
    spec = named_algorithm(name)
    described = _described(name)
    table = Table(title=f"{name}: {spec.summary} ({spec.paper})")
    for column in ("slot", "stage", "options"):
        table.add_column(column, overflow="fold")
    for slot in SLOTS:
        stages = described[slot]
        for stage in stages if isinstance(stages, list) else [stages]:
            if stage:
                table.add_row(slot, stage.get("name", ""), Text(_options(stage)))
    console.print(table)


def _stages(name: str) -> str:
    described = _described(name)
    plan = described["sample_plan"]
    parts = [described["estimator"]["name"], *(m["name"] for m in described["modulators"])]
    parts += [described["loss"]["name"], described["aggregate"]["name"]]
    parts += [r["name"] for r in described["regularizers"]]
    if plan["extra_kind"] != "none":
        parts.append(f"+1 {plan['extra_kind']}")
    if plan["resample"]:
        parts.append("resample")
    return " · ".join(parts)


def _options(stage: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in stage.items() if k != "name")


def _described(name: str) -> Mapping[str, Any]:
    from rlnorm.algorithms import resolve_algorithm  # torch comes with it

    return resolve_algorithm(name).describe()
