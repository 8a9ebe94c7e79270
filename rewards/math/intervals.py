"""Subsets of the line: intervals, unions, inequalities and set-builders in one form."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rlnorm.rewards.math.budget import OverBudget, Undefined
from rlnorm.rewards.math.compare import Policy, is_plain, values_equal
from rlnorm.rewards.math.evaluate import Numeric, symbols
from rlnorm.rewards.math.node import Node

_INF: Node = ("inf",)
_NEG_INF: Node = ("neginf",)
REALS: Node = ("sym", "set R")
_LINE: Node = ("tuple", "(", ")", (_NEG_INF, _INF))
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
            out.append(_LINE)
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
    if symbols(node) or not is_plain(node):
        return None
    try:
        number = Numeric({})(node)
    except Undefined:
        return None
    return None if number.imag else number.real


def _places(nodes: list[Node]) -> dict[Node, Any]:
    """A position for each node, the same for those of equal value; {} if one has no position."""
    found = [(_place(node), node) for node in dict.fromkeys(nodes)]
    if any(place is None for place, _ in found):
        return {}
    found.sort(key=lambda pair: pair[0])
    places = {node: place for place, node in found}
    for (low, a), (high, b) in pairwise(found):
        if low == high or high - low <= min(abs(low), abs(high)) * 1e-25:
            if not values_equal(a, b, Policy()):
                raise OverBudget("two ends too close to order")
            places[b] = places[a]
    return places


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of the line between two positions; open tells which of its ends are left out."""

    low: Any
    high: Any
    open: tuple[bool, bool]
    ends: tuple[Node, Node]

    def node(self) -> Node:
        if self.low == self.high:
            return self.ends[0]
        return ("tuple", "[("[self.open[0]], "])"[self.open[1]], self.ends)


def _spans(*groups: Sequence[Node]) -> list[list[_Span]] | None:
    """Each group's intervals and points as spans; None if an end has no position."""
    ends = [tuple(p[3]) if p[0] == "tuple" else (p, p) for group in groups for p in group]
    if any(len(pair) != 2 for pair in ends):
        return None
    places = _places([end for pair in ends for end in pair])
    if ends and not places:
        return None

    def span(part: Node) -> _Span:
        low, high = part[3] if part[0] == "tuple" else (part, part)
        left_out = (part[1] == "(", part[2] == ")") if part[0] == "tuple" else (False, False)
        return _Span(places[low], places[high], left_out, (low, high))

    return [[span(part) for part in group] for group in groups]


def _merged(parts: list[Node]) -> tuple[Node, ...]:
    """Intervals and points sorted and joined; unchanged if an end has no position."""
    found = _spans(parts)
    if found is None:
        return tuple(parts)
    first, *others = sorted(found[0], key=lambda s: (s.low, s.open[0]))
    joined = [first]
    for span in others:
        last = joined[-1]
        touches = span.low < last.high or (
            span.low == last.high and not (last.open[1] and span.open[0])
        )
        if not touches:
            joined.append(span)
        elif (span.high, not span.open[1]) > (last.high, not last.open[1]):
            ends = (last.ends[0], span.ends[1])
            joined[-1] = _Span(last.low, span.high, (last.open[0], span.open[1]), ends)
    return tuple(span.node() for span in joined)


def _without(region: Node | None, removed: Node | None) -> Node | None:
    """A set difference of intervals and points; None if an end has no position."""
    if region is None or removed is None:
        return None
    found = _spans(pieces(region), pieces(removed))
    if found is None:
        return None
    rest, holes = found
    for hole in holes:
        rest = [part for span in rest for part in _cut(span, hole)]
    return ("union", tuple(span.node() for span in rest))


def _cut(span: _Span, hole: _Span) -> list[_Span]:
    """What a hole leaves of a span: nothing, one part or two."""
    out = []
    if (span.low, span.open[0]) < (hole.low, hole.open[0]):
        end_first = (span.high, not span.open[1]) <= (hole.low, hole.open[0])
        high, end = (span.high, span.ends[1]) if end_first else (hole.low, hole.ends[0])
        is_open = span.open[1] if end_first else not hole.open[0]
        out.append(_Span(span.low, high, (span.open[0], is_open), (span.ends[0], end)))
    if (span.high, not span.open[1]) > (hole.high, not hole.open[1]):
        start_last = (span.low, span.open[0]) >= (hole.high, not hole.open[1])
        low, end = (span.low, span.ends[0]) if start_last else (hole.high, hole.ends[1])
        is_open = span.open[0] if start_last else not hole.open[1]
        out.append(_Span(low, span.high, (is_open, span.open[1]), (end, span.ends[1])))
    return out


def as_region(node: Node) -> Node | None:
    """An interval, union or set for a node that describes one; None for anything else."""
    if node[0] == "list" and (excluded := _excluded(node[1])):
        return _without(REALS, ("set", excluded))
    if node == REALS or node[0] in ("tuple", "union", "set", "list"):
        return node
    if node[0] == "builder":
        return as_region(node[2]) if _ranges_over_reals(node[1]) else None
    if node[0] == "minus":
        left, right = node[1]
        left = REALS if left == ("sym", "R") else left
        return _without(as_region(left), ("set", (right,)) if is_plain(right) else as_region(right))
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


def _excluded(items: tuple[Node, ...]) -> tuple[Node, ...]:
    """The values of `x != 1, x != 2` and of `x != 1, 2`, after an `x in R`; () for other lists."""
    if items[0][0] == "rel" and items[0][1] == ("in",) and items[0][2][1] == REALS:
        items = items[1:]
    if not items or items[0][0] != "rel" or len(symbols(items)) != 1:
        return ()
    name = items[0][2][0]
    is_one = [item[0] == "rel" and item[1] == ("!=",) and item[2][0] == name for item in items]
    bare = [item for item, one in zip(items[1:], is_one[1:], strict=True) if not one]
    if not is_one[0] or name[0] != "sym" or not all(map(is_plain, bare)):
        return ()
    return tuple(item[2][1] if one else item for item, one in zip(items, is_one, strict=True))


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
