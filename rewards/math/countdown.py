"""Countdown: check the expression itself, with its own four-operation parser."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from rlnorm.rewards.math.extract import extract
from rlnorm.rewards.math.normalize import normalize
from rlnorm.rewards.math.verify import Verdict
from rlnorm.rewards.types import Status

_MAX_CHARS = 400
_MAX_DEPTH = 40
_OPERATORS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "{": "(", "}": ")", "[": "(", "]": ")"}
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SPELLING = re.compile("|".join(re.escape(o) for o in _OPERATORS))
_TOKENS = re.compile(r"\d{1,9}|[-+*/()]")
_ALLOWED = re.compile(r"[-+*/()\d\s]+")


class _Reader:
    """sum = term (+- term)*; term = atom (*/ atom)*; atom = number | ( sum ). No unary minus."""

    def __init__(self, text: str) -> None:
        self.tokens = [*_TOKENS.findall(text), ""]
        self.numbers: list[int] = []
        self.at = 0
        self.depth = 0

    def sum(self) -> Fraction:
        value = self.term()
        while (sign := self.tokens[self.at]) in ("+", "-"):
            self.at += 1
            right = self.term()
            value = value + right if sign == "+" else value - right
        return value

    def term(self) -> Fraction:
        value = self.atom()
        while (sign := self.tokens[self.at]) in ("*", "/"):
            self.at += 1
            right = self.atom()
            value = value * right if sign == "*" else value / right
        return value

    def atom(self) -> Fraction:
        token = self.tokens[self.at]
        self.at += 1
        if token.isdigit():
            self.numbers.append(int(token))
            return Fraction(int(token))
        self.depth += 1
        if token != "(" or self.depth > _MAX_DEPTH:
            raise ValueError(f"{token!r} where a number or ( belongs")
        value = self.sum()
        if self.tokens[self.at] != ")":
            raise ValueError("an open bracket")
        self.at += 1
        self.depth -= 1
        return value


def evaluate(expression: str) -> tuple[Fraction, list[int]]:
    """Value and numbers used. Raises ValueError or ZeroDivisionError."""
    text = normalize(expression, thousands=False)
    for _ in range(8):
        text, count = _FRACTION.subn(r"((\1)/(\2))", text)
        if not count:
            break
    text = _SPELLING.sub(lambda m: _OPERATORS[m.group()], text)
    if not _ALLOWED.fullmatch(text) or re.search(r"\d\s+\d", text):
        raise ValueError("only whole numbers, + - * / and brackets may occur")
    reader = _Reader(text)
    value = reader.sum()
    if reader.tokens[reader.at]:
        raise ValueError(f"unexpected {reader.tokens[reader.at]!r}")
    return value, reader.numbers


def check_countdown(completion: str, nums: Sequence[int], target: int) -> Verdict:
    """Exact rational value, every given number once; `expression = target` is read as well."""
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
    except (ValueError, ZeroDivisionError) as error:
        return Verdict(Status.UNPARSABLE, "countdown", str(error), found.answer)
    if Counter(used) != Counter(int(n) for n in nums):
        return Verdict(Status.WRONG, "countdown", f"uses {sorted(used)}", found.answer)
    hit = value == claimed == target
    status = Status.CORRECT if hit else Status.WRONG
    return Verdict(status, "countdown", "" if hit else f"is {value}", found.answer)
