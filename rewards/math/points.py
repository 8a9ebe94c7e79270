"""The points at which two expressions are compared: generic, whole, far out, and at their steps."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import Any

from rlnorm.rewards.math.budget import OutOfWork, OverBudget, Undefined, words
from rlnorm.rewards.math.evaluate import Numeric, symbols
from rlnorm.rewards.math.node import Node

Point = dict[str, str]
"""A decimal for each name, so that it can be read with any number of digits."""
_SIGNS = (1, 1, -1, 1, -1)
PIECEWISE = words("floor ceil mod max min abs")
_STARTS = (("6.61803", 1), ("911.73205", 1), ("-23.41421", -1))
"""Where the search for a step begins, and in which direction."""
_MAX_STEPS = 12
_SCALES = ("0.6180", "4.2360", "37.4142", "911.7320", "70001.4494")


def generic_points(names: Sequence[str]) -> list[Point]:
    """Five near 0; digits of each name differ, and signs alternate on the negative points."""
    out = []
    for shift, sign in enumerate(_SIGNS):
        values = {}
        for k, name in enumerate(names):
            digits = (7919 * (k + 1) * (k + 2) + 104729 * (shift + 1)) % 999983
            negative = sign < 0 and (k + shift) % 2 == 0
            values[name] = f"{'-' if negative else ''}{shift % 3}.{digits:06d}71"
        out.append(values)
    return out


def whole_points(names: Sequence[str]) -> list[Point]:
    """Integers of every remainder by 2, 3 and 4, different for each name and not evenly spaced."""
    return [
        {name: str(whole + (3 + i) * k + k * (k - 1)) for k, name in enumerate(names)}
        for i, whole in enumerate((2, 3, 5, 8, 12, 19, 30))
    ]


def far_points(names: Sequence[str], largest: int) -> list[Point]:
    """Far apart, and at wholes and halves, where a function with steps or a bend shows them."""
    beyond = 3 * largest + 70001
    apart = [
        {n: f"{sign}{a + 7 * k + 4 * k * k}.{618 + 41 * k}" for k, n in enumerate(names)}
        for a, sign in ((6, ""), (53, ""), (911, ""), (beyond, ""), (23, "-"), (beyond, "-"))
    ]
    halves = [{n: f"{a + 2 * k + k * k}.5" for k, n in enumerate(names)} for a in (3, 14)]
    return apart + halves + whole_points(names)


def scattered_points(names: Sequence[str], numbers: Sequence[Fraction]) -> list[Point]:
    """Of several scales and on both sides of each number, where a root or logarithm may be real."""
    pool = [sign + scale for scale in _SCALES for sign in ("", "-")]
    for number in numbers[:8]:
        steps = (0.3719, -0.4142, 0.2718 * float(number))
        pool += [f"{side * float(number) + step:.8f}" for side in (1, -1) for step in steps]
    count = len(pool) if len(names) == 1 else 4 * len(pool)
    return [
        {n: pool[(i + pow(7, i + 3 * k, 8191) * k) % len(pool)] for k, n in enumerate(names)}
        for i in range(count)
    ]


def numbers_in(node: Any) -> frozenset[Fraction]:
    """The sizes of the numbers in a node."""
    if not isinstance(node, tuple) or not node:
        return frozenset()
    if node[0] == "num":
        return frozenset((abs(Fraction(node[1])),))
    return frozenset().union(*map(numbers_in, node))


def is_piecewise(node: Any) -> bool:
    """True when a function with steps or bends is called in the node."""
    if not isinstance(node, tuple) or not node:
        return False
    return (node[0] == "call" and node[1] in PIECEWISE) or any(map(is_piecewise, node))


def step_points(node: Node, sign: int, names: Sequence[str]) -> list[Point]:
    """On, just below and just above a few steps or bends of the expression, along each symbol.

    Two functions with a step at different places differ there, however close the places are.
    """
    found = islice(_crossings(node, sign, names), _MAX_STEPS)
    return [point for points in found for point in points]


def _crossings(node: Node, sign: int, names: Sequence[str]) -> Iterator[list[Point]]:
    others = far_points(names, 0)
    bends = dict.fromkeys(_bends(node))
    for at, (start, direction) in enumerate(_STARTS):
        for inside, whole in bends:
            for name in sorted(symbols(inside)):
                point = {**others[at], name: start}
                try:
                    yield _around(inside, sign, point, name, direction if whole else 0)
                except OutOfWork:
                    raise
                except (Undefined, OverBudget, ZeroDivisionError):
                    continue  # complex or undefined there, or no step in reach


def _bends(node: Any) -> Iterator[tuple[Node, bool]]:
    """What has a step where it is a whole number (True), or a bend where it is 0 (False)."""
    if not isinstance(node, tuple) or not node:
        return
    if node[0] == "call" and node[1] in PIECEWISE:
        name, arguments = node[1:]
        if name in ("floor", "ceil"):
            yield arguments[0], True
        elif name == "mod" and len(arguments) == 2:
            yield ("div", *arguments), True
        elif name == "abs":
            yield arguments[0], False
        else:
            yield from ((("add", (arguments[0], ("neg", a))), False) for a in arguments[1:])
    for part in node:
        yield from _bends(part)


def _around(inside: Node, sign: int, point: Point, name: str, direction: int) -> list[Point]:
    """The point moved along one symbol to the next whole number or, without direction, to 0."""
    numeric = Numeric({}, sign)
    mp = numeric.mp
    values = {n: mp.mpf(text) for n, text in point.items()}

    def value(x: Any) -> Any:
        numeric.values, numeric.reach = {**values, name: x}, 0
        return numeric(inside)

    x = values[name]
    y = value(x)
    if mp.im(y) or abs(y) > 1e12:
        raise Undefined("complex, or too far out for a step to show")
    target = mp.ceil(y * direction) * direction or direction
    last_x, last_y, y = x + mp.mpf("0.01"), value(x + mp.mpf("0.01")) - target, y - target
    for _ in range(12):  # the secant method
        if abs(y) < mp.mpf(10) ** -36:
            break
        x, last_x, last_y = x - y * (x - last_x) / (y - last_y), x, y
        y = value(x) - target
    if mp.im(x) or abs(y) > mp.mpf(10) ** -30 or abs(x) > 1e12:
        raise Undefined("no step near")
    x = mp.nint(x * mp.mpf(10) ** 34) / mp.mpf(10) ** 34
    gap = max(abs(x), 1) * mp.mpf(10) ** -5
    return [{**point, name: mp.nstr(at, 38)} for at in (x, x - gap, x + gap)]
