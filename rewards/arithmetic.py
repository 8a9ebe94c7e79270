"""Exact arithmetic on text: own parser, no eval; the cost of every step is bounded beforehand."""

import re
from collections.abc import Iterator
from fractions import Fraction

MAX_CHARACTERS, MAX_DEPTH, MAX_BITS = 400, 40, 2048
_TOKEN = re.compile(r"\s*(?:(\d{1,60}(?:\.\d{1,60})?|\.\d{1,60})|(\*\*|[-+*/^()]))")


class CalculationError(ValueError):
    """The expression is invalid; the message is written for its author."""


def calculate(expression: str) -> Fraction:
    """The value of + - * / ** ^ and parentheses over decimal numbers; ** binds to the right."""
    if len(expression) > MAX_CHARACTERS:
        raise CalculationError(f"expression of {len(expression)} characters: at most 400")
    return _Parser(expression).value()


def calculate_plain(expression: str) -> tuple[Fraction, list[Fraction]]:
    """The value of + - * / and parentheses, without signs and powers, and the numbers used."""
    parser = _Parser(expression, plain=True)
    return parser.value(), parser.numbers


def show(value: Fraction) -> str:
    """An integer in full, anything else as a decimal of at most 12 significant digits."""
    if value.denominator == 1:
        return str(value.numerator)
    try:
        return f"{float(value):.12g}"
    except OverflowError:
        return f"{value.numerator // value.denominator}"


class _Parser:
    """Recursive descent with one token of look-ahead; depth counts nested calls."""

    def __init__(self, text: str, *, plain: bool = False) -> None:
        self._tokens, self._plain = self._scan(text), plain
        self._token: str | None = next(self._tokens, None)
        self.numbers: list[Fraction] = []

    def value(self) -> Fraction:
        """The value of the complete text."""
        value = self._sum(0)
        if self._token is not None:
            raise CalculationError(f"unexpected {self._token!r}")
        return value

    @staticmethod
    def _scan(text: str) -> Iterator[str]:
        at, text = 0, text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise CalculationError(f"unexpected {text[at:].lstrip()[:20]!r}")
            at = match.end()
            yield match.group(1) or match.group(2)

    def _take(self) -> str:
        token = self._token
        if token is None:
            raise CalculationError("the expression ends too early")
        self._token = next(self._tokens, None)
        return token

    def _sum(self, depth: int) -> Fraction:
        """term (+|- term)*"""
        value = self._product(depth)
        while self._token in ("+", "-"):
            value = _bounded(
                value + self._product(depth)
                if self._take() == "+"
                else value - self._product(depth)
            )
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        while self._token in ("*", "/"):
            operator, factor = self._take(), self._signed(depth)
            if operator == "/" and factor == 0:
                raise CalculationError("division by zero")
            value = _bounded(value * factor if operator == "*" else value / factor)
        return value

    def _signed(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise CalculationError(f"nested deeper than {MAX_DEPTH}")
        if self._token in ("+", "-") and not self._plain:
            sign = -1 if self._take() == "-" else 1
            return sign * self._signed(depth + 1)
        return self._power(depth)

    def _power(self, depth: int) -> Fraction:
        base = self._atom(depth)
        if self._token not in ("**", "^") or self._plain:
            return base
        self._take()
        return _power(base, self._signed(depth + 1))

    def _atom(self, depth: int) -> Fraction:
        token = self._take()
        if token == "(":
            value = self._sum(depth + 1)
            if self._token != ")":
                raise CalculationError("a parenthesis is not closed")
            self._take()
            return value
        if token[0].isdigit() or token[0] == ".":
            self.numbers.append(Fraction(token))
            return self.numbers[-1]
        raise CalculationError(f"unexpected {token!r}")


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _bounded(value: Fraction) -> Fraction:
    if _bits(value) > MAX_BITS:
        raise CalculationError("the numbers grow too large")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise CalculationError("an exponent must be a whole number")
    if base == 0 and exponent < 0:
        raise CalculationError("division by zero")
    # bound the size of the result before computing it
    if base not in (-1, 0, 1) and _bits(base) * abs(exponent) > 2 * MAX_BITS:
        raise CalculationError("the numbers grow too large")
    if base in (-1, 1):
        return base if exponent % 2 else Fraction(1)
    return _bounded(base ** int(exponent))
