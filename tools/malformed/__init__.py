"""Malformed rows, configs, models and rewards: each must end in one line that names it."""

from malformed import code, models, rows, settings
from malformed.case import Malformed, Outcome, run

CASES: dict[str, Malformed] = {
    f"{group.__name__.rpartition('.')[2]}/{case.name}": case
    for group in (rows, settings, models, code)
    for case in group.CASES
}
__all__ = ["CASES", "Malformed", "Outcome", "run"]
