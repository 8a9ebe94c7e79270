"""Write the generated pages from the code: python docs/generate.py (make docs)."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import torch
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlnorm.algorithms import resolve_algorithm
from rlnorm.methods import STAGES, algorithms, methods
from rlnorm.trainers.config.load import sections
from rlnorm.trainers.record.metrics import METRICS

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py. Edit the docstrings and presets, not this file. -->\n"

TITLES = {
    "estimator": "Estimators: rewards to advantages",
    "shaping": "Shaping: rewards before any statistic",
    "modulators": "Modulators: advantages to advantages",
    "loss": "Losses: per trained token",
    "aggregate": "Aggregates: token losses to one number",
    "regularizers": "Regularizers: beside the loss, or in its place",
    "correction": "Corrections: sampler against learner",
}

GROUPS = {
    "3 of 8 correct, A of a correct one": [1.0] * 3 + [0.0] * 5,
    "1 of 4 correct, A of the correct one": [1.0, 0.0, 0.0, 0.0],
    "eight times 0.1, largest abs A": [0.1] * 8,
    "sixteen times 1/3, largest abs A": [1 / 3] * 16,
    "1.00001 and 1, A of the first": [1.00001, 1.0],
    "a single rollout with reward 1": [1.0],
}

VARIANTS = [
    "grpo",
    "grpo@verl",
    "grpo@trl",
    "grpo@openrlhf",
    "grpo@nemo_rl",
    "grpo@nemo_rl_no_loo",
    "grpo@prime_rl",
    "grpo@open_instruct",
]


def methods_page() -> str:
    """Every algorithm and every stage function."""
    lines = [NOTE, "# Methods\n", "`algorithm: NAME` in a config selects a row of the first table;"]
    lines += ["any of its slots can be overridden. `rlnorm estimators` prints the same.\n"]
    lines += ["## Algorithms\n", "| name | what | paper | estimator | loss | aggregate | also |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in algorithms():
        stages = row.stages
        extra = [s["name"] for slot in ("modulators", "regularizers") for s in stages[slot]]
        plan = stages["sample_plan"]
        extra += [f"+1 {plan['extra_kind']}"] if plan["extra_kind"] != "none" else []
        extra += ["resample"] if plan["resample"] else []
        names = [stages[slot]["name"] for slot in ("estimator", "loss", "aggregate")]
        cells = [f"`{row.name}`", row.summary, row.paper, *names, ", ".join(extra)]
        lines.append(_row(cells))
    for slot, title in TITLES.items():
        lines += [f"\n## {title}\n", "| name | paper | formula | when | cost | options | file |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for m in (m for m in methods() if m.slot == slot):
            file = f"[{Path(m.file).name}](../{m.file})"
            formula = f"`{m.formula}`"
            cells = [f"`{m.name}`", m.paper, formula, m.when, m.cost, options(m.options), file]
            lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def variants_page() -> str:
    """The advantages each framework's GRPO gives to the same groups."""
    lines = [NOTE, "# The GRPO of other frameworks on the same groups\n"]
    lines += ['"GRPO" is not one function. Each row is `algorithm: NAME`, computed by this library']
    lines += ["with that framework's formula and precision (snapshots of August 2026: verl 0.9.1,"]
    lines += [
        "TRL 1.16, OpenRLHF 0.11, NeMo-RL 0.6, prime-rl 0.8, open-instruct). `grpo` itself is"
    ]
    lines += [
        "float64, and exactly 0 where all rewards are equal. The last digits of what rounding"
    ]
    lines += ["leaves depend on the order a machine sums in, so those cells give one digit.\n"]
    lines += [_row(["algorithm", *GROUPS]), _row(["---"] * (len(GROUPS) + 1))]
    for name in VARIANTS:
        lines.append(_row([f"`{name}`", *(_value(name, rewards) for rewards in GROUPS.values())]))
    return "\n".join(lines) + "\n"


TITLES_OF_SECTIONS = {
    "": "Top level",
    "rewards": "rewards (a list of these)",
    "data.train.<name>": "data.train.NAME (a table of these in place of one source)",
}


def configuration_page() -> str:
    """Every key of a config with its type, default and meaning."""
    lines = [
        NOTE,
        "# Configuration\n",
        "A run is one YAML file with these keys; what it leaves out",
    ]
    lines += [
        "takes the default. On the command line: `section.key=value`; items of a list by name"
    ]
    lines += ["(`rewards.format.weight=0.2`). Unknown keys are errors.\n"]
    for title, section in sections().items():
        title = TITLES_OF_SECTIONS.get(title, title)
        lines += [f"\n## {title}\n", "| key | allowed | default | meaning |", "|---|---|---|---|"]
        for name, field in section.model_fields.items():
            if field.description:
                default = "required" if field.is_required() else repr(field.default)
                meaning = " ".join(field.description.split())
                cells = [f"`{name}`", allowed(field), f"`{default}`", meaning]
                lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def metrics_page() -> str:
    """Every metric with its unit and meaning."""
    lines = [NOTE, "# Metrics\n", "`metrics.jsonl` has one line per step with these names; W&B and"]
    lines += ["TensorBoard get the same. A name in angle brackets is one of the config's own. A"]
    lines += [
        "number that does not exist in a step, such as the entropy where nothing was trained,"
    ]
    lines += ["is null.\n", "| name | unit | meaning |", "|---|---|---|"]
    lines += [_row([f"`{name}`", unit, text]) for name, (unit, text) in METRICS.items()]
    return "\n".join(lines) + "\n"


def allowed(field: FieldInfo) -> str:
    """A key's type and bounds. Example: `int`, >= 1."""
    bounds = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    limits = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in bounds.items()
        if getattr(rule, name, None) is not None
    ]
    return ", ".join([f"`{type_name(field.annotation)}`", *limits])


def type_name(annotation: Any) -> str:
    """A type without modules and constraints. Example: dict[str, str] | None."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(repr, inner))
    if origin is Annotated:
        return type_name(inner[0])
    if origin in (UnionType, Union):
        return " | ".join(map(type_name, inner))
    if origin is Callable:
        return "function"
    if inner:
        return f"{origin.__name__}[{', '.join(map(type_name, inner))}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if annotation in (NoneType, Ellipsis):
        return "None" if annotation is NoneType else "..."
    return str(annotation.__name__)


def options(table: Mapping[str, Any]) -> str:
    """Options with their defaults, those without one marked."""
    empty = inspect.Parameter.empty
    return ", ".join(f"{k} (needed)" if v is empty else f"{k}={v}" for k, v in table.items())


def _value(name: str, rewards: list[float]) -> str:
    data = {
        "rewards": torch.tensor(rewards, dtype=torch.float64)[:, None],
        "group_index": torch.zeros(len(rewards), dtype=torch.long),
    }
    values = resolve_algorithm(name).advantages(data).values
    largest = float(values.abs().max())
    if len(set(rewards)) == 1 and len(rewards) > 1:
        return "0" if largest == 0 else f"{largest:.0e}"
    return f"{float(values[0]):.4g}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


PAGES = {
    "methods.md": methods_page,
    "grpo_variants.md": variants_page,
    "configuration.md": configuration_page,
    "metrics.md": metrics_page,
}

if __name__ == "__main__":
    assert set(TITLES) == set(STAGES)
    for page, write in PAGES.items():
        (DOCS / page).write_text(write())
