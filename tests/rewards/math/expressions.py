"""Random expressions in x and n whose value is worked out with fractions, not by the verifier.

A tree is ("number", 3), ("name", "x") or an operator before its one or two trees.
"""

from fractions import Fraction
from math import ceil, floor
from random import Random

VALUES = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "negative": lambda a: -a,
    "square": lambda a: a**2,
    "power -3": lambda a: a**-3,
    "absolute": abs,
    "floor": lambda a: Fraction(floor(a)),
    "ceiling": lambda a: Fraction(ceil(a)),
}
LATEX = {
    "+": "({}+{})",
    "-": "({}-{})",
    "*": "{} \\cdot {}",
    "/": "\\frac{{{}}}{{{}}}",
    "negative": "(-{})",
    "square": "\\left({}\\right)^2",
    "power -3": "\\left({}\\right)^{{-3}}",
    "absolute": "\\left|{}\\right|",
    "floor": "\\lfloor {}\\rfloor",
    "ceiling": "\\lceil {}\\rceil",
}
SMOOTH = ("+", "-", "*", "/", "negative", "square", "power -3", "absolute")
STEPPED = (*SMOOTH, "floor", "ceiling")
NAMES = ("x", "n", "k")
LARGEST = 10**15


def random_points(count: int, rng: Random) -> list[dict[str, Fraction]]:
    """A value for each name: whole and broken, near 0 and far from it, of both signs."""
    bottoms = (1, 1, 2, 3, 7, 90)
    return [
        {
            name: Fraction(rng.choice([-1, 1]) * rng.randint(1, 60), rng.choice(bottoms))
            for name in NAMES
        }
        for _ in range(count)
    ]


POINTS = random_points(60, Random(2))
"""Expressions with equal values at all of these are taken for equal."""


def random_tree(operators: tuple[str, ...], depth: int, rng: Random) -> tuple:
    """A tree at most `depth` operators deep."""
    if depth == 0 or rng.random() < 0.15:
        if rng.random() < 0.4:
            return ("name", rng.choice(NAMES[:2]))
        return ("number", rng.randint(1, 20))
    operator = rng.choice(operators)
    branches = 2 if operator in ("+", "-", "*", "/") else 1
    return (operator, *(random_tree(operators, depth - 1, rng) for _ in range(branches)))


def value(tree: tuple, at: dict[str, Fraction]) -> Fraction:
    """ZeroDivisionError where it has none."""
    if tree[0] == "number":
        return Fraction(tree[1])
    if tree[0] == "name":
        return at[tree[1]]
    return VALUES[tree[0]](*(value(branch, at) for branch in tree[1:]))


def latex(tree: tuple) -> str:
    if tree[0] in ("number", "name"):
        return str(tree[1])
    return LATEX[tree[0]].format(*map(latex, tree[1:]))


def turned_round(tree: tuple, rng: Random) -> tuple:
    """The same tree with some sums and products the other way round."""
    if tree[0] in ("number", "name"):
        return tree
    branches = [turned_round(branch, rng) for branch in tree[1:]]
    if tree[0] in ("+", "*") and rng.random() < 0.6:
        branches.reverse()
    return (tree[0], *branches)


def with_a_leaf_changed(tree: tuple, rng: Random) -> tuple:
    """Another number or another name somewhere in the tree."""
    if tree[0] == "number":
        return ("number", tree[1] + rng.choice([1, 2]))
    if tree[0] == "name":
        return ("name", rng.choice([name for name in NAMES if name != tree[1]]))
    at = rng.randrange(1, len(tree))
    return (*tree[:at], with_a_leaf_changed(tree[at], rng), *tree[at + 1 :])


def random_pair(operators: tuple[str, ...], rng: Random) -> tuple[str, str, bool] | None:
    """Two expressions in LaTeX and whether they are equal.

    None where some value is missing or too large, where all are 0 (the verifier then refuses what
    has steps), and for floors with another leaf that agree at the points, since they may differ
    in between.
    """
    first = random_tree(operators, rng.choice([1, 2, 2, 3]), rng)
    second = turned_round(first, rng)
    changed = rng.random() < 0.5
    if changed:
        second = with_a_leaf_changed(second, rng)
    try:
        both = [(value(first, at), value(second, at)) for at in POINTS]
    except ZeroDivisionError:
        return None
    if not 0 < max(abs(number) for pair in both for number in pair) <= LARGEST:
        return None
    equal = all(one == other for one, other in both)
    if equal and changed and operators is STEPPED:
        return None
    return latex(first), latex(second), equal
