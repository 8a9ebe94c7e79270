"""The cost limits of one verdict, and the errors for answers beyond them."""

import threading

MAX_ANSWER_CHARS = 4000
"""Longer answers are only compared as text."""
MAX_TOKENS = 1500
MAX_DEPTH = 40
MAX_DIGITS = 4000
"""Of one number literal; Python refuses to read integers beyond 4300."""
MAX_BITS = 1 << 17
"""Of any exact integer in a computation."""
MAX_FACTORIAL = 5000
MAX_EXPONENT = 1.0e6
"""Of |exponent * log2(base)| and of any argument of exp or a circular function, in numerics."""
MAX_ITEMS = 64
"""Of a list that is compared regardless of order."""


MAX_WORK = 20_000
"""Of one verdict: one unit per visited node, more for long integers; about 0.2 s."""


class Unparsable(Exception):
    """The text is not an expression of the allowed language."""


class UnknownCommand(Unparsable):
    """A LaTeX command outside the grammar; math-verify may know it."""


class OverBudget(Exception):
    """Evaluating it could cost too much; only structural equality may decide."""


class TooClose(OverBudget):
    """A value too close to a step of a function to tell on which side it lies."""


class OutOfWork(OverBudget):
    """The work of one verdict is used up."""


class Undefined(Exception):
    """The expression has no value (0/0, log 0); it equals nothing."""


class _Meter(threading.local):
    work = 0.0


_meter = _Meter()


def start_work() -> None:
    """Begin counting for a new verdict."""
    _meter.work = 0.0


def spend(bits: int = 0) -> None:
    """Count one visited node and the integers it needed."""
    _meter.work += 1.0 + (bits / 2000) ** 2
    if _meter.work > MAX_WORK:
        raise OutOfWork("too much work")


def words(text: str) -> frozenset[str]:
    """The words of a text as a set; the allow-lists are written this way."""
    return frozenset(text.split())
