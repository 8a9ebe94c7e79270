"""Countdown: check the expression itself, with numbers, four operations and brackets."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from rlnorm.rewards.arithmetic import calculate_plain
from rlnorm.rewards.math.extract import extract
from rlnorm.rewards.math.normalize import normalize
from rlnorm.rewards.math.verify import Verdict
from rlnorm.rewards.types import Status

_MAX_CHARS = 400
_OPERATORS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "{": "(", "}": ")", "[": "(", "]": ")"}
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SPELLING = re.compile("|".join(re.escape(o) for o in _OPERATORS))
_ALLOWED = re.compile(r"[-+*/()\d\s]+")
_NOT_ALLOWED = re.compile(r"\d\s+\d|\d{10}")


def evaluate(expression: str) -> tuple[Fraction, list[int]]:
    """Value and numbers used. Raises ValueError."""
    text = normalize(expression, thousands=False)
    for _ in range(8):
        text, count = _FRACTION.subn(r"((\1)/(\2))", text)
        if not count:
            break
    text = _SPELLING.sub(lambda m: _OPERATORS[m.group()], text)
    if not _ALLOWED.fullmatch(text) or _NOT_ALLOWED.search(text):
        raise ValueError("only whole numbers, + - * / and brackets may occur")
    value, numbers = calculate_plain(text)
    return value, [int(n) for n in numbers]


def check_countdown(completion: str, nums: Sequence[int], target: int) -> Verdict:
    """Exact rational value, every given number once; `expression = target` is accepted too."""
    found = extract(completion)
    if found.answer is None:
        status = Status.WRONG if found.rejected else Status.NO_ANSWER
        return Verdict(status, "countdown", found.why)
    left, equals, right = found.answer.partition("=")
    if len(found.answer) > _MAX_CHARS:
        return Verdict(Status.UNPARSABLE, "countdown", "too long", found.answer[:200])
    try:
        value, used = evaluate(left)
        claimed = evaluate(right)[0] if equals else value
    except ValueError as error:
        return Verdict(Status.UNPARSABLE, "countdown", str(error), found.answer)
    if Counter(used) != Counter(int(n) for n in nums):
        return Verdict(Status.WRONG, "countdown", f"uses {sorted(used)}", found.answer)
    hit = value == claimed == target
    status = Status.CORRECT if hit else Status.WRONG
    return Verdict(status, "countdown", "" if hit else f"is {value}", found.answer)
