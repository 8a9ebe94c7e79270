"""The catalogue of methods, read from the code: `rlnorm estimators` and docs/methods.md.

Every stage's module docstring says Paper, Formula, When and Cost; its function gives the options.
"""

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnorm.advantages import ESTIMATORS, SHAPERS
from rlnorm.algorithms import resolve_algorithm
from rlnorm.correction import CORRECTIONS
from rlnorm.losses import AGGREGATES, LOSSES
from rlnorm.modulators import MODULATORS
from rlnorm.named_algorithms import ALGORITHMS
from rlnorm.options import options_of
from rlnorm.regularizers import REGULARIZERS, SELECTORS

STAGES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "estimator": ESTIMATORS,
    "shaping": SHAPERS,
    "modulators": MODULATORS,
    "loss": LOSSES,
    "aggregate": AGGREGATES,
    "regularizers": REGULARIZERS,
    "correction": CORRECTIONS,
}

_FIELD = re.compile(r"^(Paper|Formula|When|Cost): (.+(?:\n {4}.+)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Method:
    """One function that a slot may name."""

    name: str
    slot: str
    paper: str
    formula: str
    when: str
    cost: str
    file: str
    """Relative to the repository."""
    options: Mapping[str, Any]
    """With their defaults; inspect.Parameter.empty where one must be given."""


@dataclass(frozen=True, slots=True)
class NamedAlgorithm:
    """One value of `algorithm:` in a config."""

    name: str
    summary: str
    paper: str
    stages: Mapping[str, Any]
    """Every slot with every option, as Algorithm.describe gives it."""
    needs: tuple[str, ...]
    """What scoring passes must compute."""


def methods() -> list[Method]:
    """Every function a slot may name, in the order of the slots."""
    rows = []
    for slot, table in STAGES.items():
        for name, function in table.items():
            fields = docstring_fields(function)
            options = dict(options_of(function))
            if slot == "regularizers" and name in SELECTORS:
                options |= options_of(SELECTORS[name])
            rows.append(
                Method(
                    name=name,
                    slot=slot,
                    paper=fields["Paper"],
                    formula=fields["Formula"],
                    when=fields["When"],
                    cost=fields["Cost"],
                    file=_file_of(function),
                    options=options,
                )
            )
    return rows


def algorithms() -> list[NamedAlgorithm]:
    """Every named algorithm with its stages, resolved."""
    rows = []
    for name, spec in ALGORITHMS.items():
        algorithm = resolve_algorithm(name)
        described = algorithm.describe()
        del described["algorithm"]
        needs = tuple(sorted(algorithm.needs | algorithm.training_needs))
        rows.append(NamedAlgorithm(name, spec.summary, spec.paper, described, needs))
    return rows


def docstring_fields(function: Callable[..., Any]) -> dict[str, str]:
    """Paper, Formula, When and Cost of the module a function lives in."""
    document = inspect.getdoc(sys.modules[function.__module__]) or ""
    fields = {key: " ".join(text.split()) for key, text in _FIELD.findall(document)}
    if missing := {"Paper", "Formula", "When", "Cost"} - fields.keys():
        raise ValueError(f"{_file_of(function)}: its docstring lacks {sorted(missing)}")
    return fields


def _file_of(function: Callable[..., Any]) -> str:
    # by module name: a function wrapped by a checker has another source file
    return str(Path(*function.__module__.split(".")).with_suffix(".py"))
