"""Subsets of the line: intervals, unions, inequalities and set-builders in one form."""

import math
from itertools import pairwise
from typing import Any

from rlnorm.rewards.math.budget import Undefined
from rlnorm.rewards.math.evaluate import Numeric, symbols
from rlnorm.rewards.math.node import Node

_INF: Node = ("inf",)
_NEG_INF: Node = ("neginf",)
REALS: Node = ("sym", "set R")
_OPEN = {"<": "(", "<=": "[", ">": ")", ">=": "]"}


def _normal_end(node: Node) -> Node:
    return _NEG_INF if node in (("neg", _INF), ("neginf",)) else node


def pieces(region: Node) -> tuple[Node, ...]:
    """The parts of a union, those that touch on the line merged; a set gives its elements."""
    parts = region[1] if region[0] == "union" else (region,)
    if region[0] == "list" and all(item[0] == "rel" for item in region[1]):
        return _alternatives(region[1])
    out: list[Node] = []
    for part in parts:
        if part == REALS:
            out.append(("tuple", "(", ")", (_NEG_INF, _INF)))
        elif part[0] == "tuple":
            out.append((*part[:3], tuple(_normal_end(n) for n in part[3])))
        elif part[0] in ("set", "list"):
            out += [("point", item) if item[0] == "tuple" else item for item in part[1]]
        else:
            out.append(part)
    return _merged(out) if len(out) > 1 else tuple(out)


def _alternatives(relations: tuple[Node, ...]) -> tuple[Node, ...]:
    """`x < 1 or x > 3` as spans; unchanged if they overlap, since that may mean `and`."""
    spans = [as_region(relation) for relation in relations]
    if len(symbols(relations)) != 1 or any(s is None or s[0] != "tuple" for s in spans):
        return relations
    joined = pieces(("union", tuple(spans)))
    return joined if len(joined) == len(spans) else relations


def _place(node: Node) -> Any:
    """A comparable position on the line; None when it has none."""
    if node in (_INF, _NEG_INF):
        return float("inf") if node == _INF else float("-inf")
    try:
        number = None if symbols(node) else Numeric({})(node)
    except Undefined:
        return None
    return None if number is None or number.imag else number.real


def _merged(parts: list[Node]) -> tuple[Node, ...]:
    """Intervals and points sorted and joined; unchanged if an end has no position."""
    spans = []
    for part in parts:
        ends = part[3] if part[0] == "tuple" else (part, part)
        places = [_place(n) for n in ends]
        if len(ends) != 2 or None in places:
            return tuple(parts)
        brackets = part[1:3] if part[0] == "tuple" else ("[", "]")
        spans.append([places[0], brackets[0] == "(", places[1], brackets[1] == "]", *ends])
    spans.sort(key=lambda s: s[:2])
    joined = [spans[0]]
    for span in spans[1:]:
        last = joined[-1]
        touches = span[0] < last[2] or (span[0] == last[2] and (last[3] or not span[1]))
        if not touches:
            joined.append(span)
        elif (span[2], span[3]) > (last[2], last[3]):
            last[2], last[3], last[5] = span[2], span[3], span[5]
    return tuple(
        s[4]
        if s[0] == s[2]
        else ("tuple", "(" if s[1] else "[", "]" if s[3] else ")", (s[4], s[5]))
        for s in joined
    )


def as_region(node: Node) -> Node | None:
    """An interval, union or set for a node that describes one; None for anything else."""
    if node == REALS or node[0] in ("tuple", "union", "set", "list"):
        return node
    if node[0] == "builder":
        return as_region(node[2]) if _ranges_over_reals(node[1]) else None
    if node[0] == "minus" and node[1][0] == REALS and node[1][1][0] == "set":
        return _without_points(node[1][1][1])
    if node[0] != "rel":
        return None
    operators, sides = node[1], node[2]
    if operators == ("in",) and sides[0][0] == "sym":
        return as_region(sides[1])
    bare = tuple(_inside_bars(side) for side in sides)
    if bare != sides:
        return _mirrored(as_region(("rel", operators, bare)))
    if len(operators) == 1:
        return _half_line(operators[0], sides)
    if len(operators) == 2 and sides[1][0] == "sym" and not symbols((sides[0], sides[2])):
        return _between(operators, sides)
    return None


def _inside_bars(node: Node) -> Node:
    name = node[2][0] if node[:2] == ("call", "abs") else node
    return name if name[0] == "sym" else node


def _mirrored(region: Node | None) -> Node | None:
    """What x runs over when |x| runs over an interval."""
    if region is None or region[0] != "tuple":
        return None
    (low, high), opening, closing = region[3], region[1], region[2]
    places = _place(low), _place(high)
    if None in places or places[1] <= 0:
        return None
    below = {")": "(", "]": "["}[closing]
    least = _NEG_INF if high == _INF else ("neg", high)
    if low == _NEG_INF:
        return ("tuple", below, closing, (least, high))
    above = {"(": ")", "[": "]"}[opening]
    left: Node = ("tuple", below, above, (least, ("neg", low)))
    return ("union", (left, region)) if places[0] >= 0 else None


def _ranges_over_reals(element: Node) -> bool:
    """True for `x` and `x in R` before the bar, not for `2x` or `x in Z`."""
    return bool(element[0] == "sym" or (element[0] == "rel" and element[2][1:] == (REALS,)))


def _without_points(points: tuple[Node, ...]) -> Node | None:
    places = {_place(point): point for point in points}
    if None in places or not all(map(math.isfinite, places)):
        return None
    ends = (_NEG_INF, *(places[p] for p in sorted(places)), _INF)
    return ("union", tuple(("tuple", "(", ")", pair) for pair in pairwise(ends)))


def _half_line(operator: str, sides: tuple[Node, ...]) -> Node | None:
    left, right = sides
    if left[0] != "sym" and right[0] == "sym":
        left, right = right, left
        operator = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(operator, operator)
    if left[0] != "sym" or symbols(right):
        return None
    if operator == "!=":
        below: Node = ("tuple", "(", ")", (_NEG_INF, right))
        return ("union", (below, ("tuple", "(", ")", (right, _INF))))
    if operator in ("<", "<="):
        return ("tuple", "(", _OPEN[operator.replace("<", ">")], (_NEG_INF, right))
    if operator in (">", ">="):
        return ("tuple", _OPEN[operator.replace(">", "<")], ")", (right, _INF))
    return None


def _between(operators: tuple[str, ...], sides: tuple[Node, ...]) -> Node | None:
    low, high, (first, second) = sides[0], sides[2], operators
    if first in (">", ">=") and second in (">", ">="):
        low, high = high, low
        first, second = second.replace(">", "<"), first.replace(">", "<")
    if first not in ("<", "<=") or second not in ("<", "<="):
        return None
    return ("tuple", _OPEN[first], _OPEN[second.replace("<", ">")], (low, high))
