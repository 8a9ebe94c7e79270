"""Equality of answers that have a shape: lists, sets, tuples, intervals, relations, matrices."""

from collections.abc import Sequence

from rlnorm.rewards.math.budget import Undefined
from rlnorm.rewards.math.compare import (
    Policy,
    has_sign_choice,
    is_finite_decimal,
    is_plain,
    match_unordered,
    values_equal,
)
from rlnorm.rewards.math.evaluate import exact, has_kind, symbols
from rlnorm.rewards.math.intervals import REALS, as_region, pieces
from rlnorm.rewards.math.matrices import reduced
from rlnorm.rewards.math.node import Node
from rlnorm.rewards.math.relations import labelled_value, relations_equal
from rlnorm.rewards.math.units import is_void, unit_key

_GROUPING = ("list", "set")
_ARITHMETIC = {"add", "mul", "neg", "div", "pow", "call"}
_REGIONS = {"union", "builder", "minus"}


def equal(gold: Node, pred: Node, policy: Policy) -> bool:
    """True when the two answers mean the same. Raises OverBudget when that costs too much."""
    if gold == pred:
        return True
    gold, pred, agree = _without_units(_bare(gold), _bare(pred), policy)
    if not agree:
        return False
    if gold == pred:
        return True
    if "rel" in (gold[0], pred[0]):
        return _with_relation(gold, pred, policy)
    if REALS in (gold, pred) and "tuple" in (gold[0], pred[0]):
        return _regions_equal(gold, pred, policy)
    if _is_collection(gold) or _is_collection(pred):
        return _collections_equal(gold, pred, policy)
    if (gold[0] == "ratio") != (pred[0] == "ratio"):
        gold, pred = _quotient(gold), _quotient(pred)
    if is_plain(gold) and is_plain(pred):
        return _plain_equal(gold, pred, policy)
    return _shaped_equal(gold, pred, policy)


def _bare(node: Node) -> Node:
    """Without outer parts that carry no meaning: one-element brackets, text labels."""
    while True:
        if node[0] == "unit" and not node[2]:
            node = node[1]
        elif node[0] == "tuple" and len(node[3]) == 1 and node[1] + node[2] in ("()", "[]"):
            node = node[3][0]
        elif node[0] == "groups":
            node = ("list", tuple(("tuple", "(", ")", _values(group)) for group in node[1]))
        elif node[0] == "add" and _is_set_difference(node[1]):
            node = ("minus", (node[1][0], node[1][1][1]))
        elif node[0] == "neg" and node[1][0] == "inf":
            return ("neginf",)
        elif node[0] in _ARITHMETIC and has_kind(node, "matrix"):
            return reduced(node)
        else:
            return node


def _is_set_difference(terms: tuple[Node, ...]) -> bool:
    """True for the terms of `R - {0}` and `[0, 5] - {2}`."""
    first, second = terms[0], terms[1]
    regions = first == REALS or first[0] in ("tuple", "union", "set")
    return len(terms) == 2 and regions and second[0] == "neg" and second[1][0] == "set"


def _values(items: Sequence[Node]) -> tuple[Node, ...]:
    return tuple(v if (v := labelled_value(item)) is not None else item for item in items)


def _split_unit(node: Node) -> tuple[Node, str, bool]:
    name = ""
    if node[0] == "unit":
        node, name = node[1], node[2]
    if node[0] == "neg" and node[1][0] in ("deg", "pct"):
        node = (node[1][0], ("neg", node[1][1]))
    if node[0] == "deg":
        node, name = node[1], name or "degree"
    percent = node[0] == "pct"
    return node[1] if percent else node, name, percent


def _without_units(gold: Node, pred: Node, policy: Policy) -> tuple[Node, Node, bool]:
    left, left_unit, left_percent = _split_unit(gold)
    right, right_unit, right_percent = _split_unit(pred)
    if is_void(left_unit) or is_void(right_unit):
        return left, right, False
    units = unit_key(left_unit), unit_key(right_unit)
    if policy.units == "agree" and all(units) and units[0] != units[1]:
        return left, right, False
    if left_percent != right_percent:
        if policy.percent == "strict":
            return left, right, False
        if policy.percent == "value" and not equal(left, right, Policy()):
            left = ("pct", left) if left_percent else left
            right = ("pct", right) if right_percent else right
    return _bare(left), _bare(right), True


def _is_collection(node: Node) -> bool:
    return node[0] in _GROUPING or (has_sign_choice(node) and is_plain(node))


def _members(node: Node) -> tuple[Node, ...]:
    if node[0] in _GROUPING:
        return tuple(m for item in node[1] for m in _members_of_item(item))
    return _members_of_item(node)


def _members_of_item(node: Node) -> tuple[Node, ...]:
    if has_sign_choice(node) and is_plain(node):
        return (("signed", node, 1), ("signed", node, -1))
    return (node,)


def _item_equal(a: Node, b: Node, policy: Policy) -> bool:
    if "signed" in (a[0], b[0]):
        left, s = (a[1], a[2]) if a[0] == "signed" else (a, 1)
        right, t = (b[1], b[2]) if b[0] == "signed" else (b, 1)
        left, right = labelled_value(left) or left, labelled_value(right) or right
        return is_plain(left) and is_plain(right) and _plain_equal(left, right, policy, (s, t))
    return equal(a, b, policy)


def _collections_equal(gold: Node, pred: Node, policy: Policy) -> bool:
    if {gold[0], pred[0]} & _REGIONS:
        return _regions_equal(gold, pred, policy)
    if "tuple" in (gold[0], pred[0]):
        grouped, other = (gold, pred) if pred[0] == "tuple" else (pred, gold)
        ordered = other[1] + other[2] == "()" and grouped[0] == "list"
        return ordered and _in_order(_by_coordinate(grouped[1]), other[3], policy)
    left, right = _members(gold), _members(pred)
    if any(m[0] == "dots" for m in (*left, *right)):
        return _in_order(left, right, policy)
    return match_unordered(left, right, lambda a, b: _item_equal(a, b, policy))


def _by_coordinate(items: Sequence[Node]) -> Sequence[Node]:
    """`y = 3, x = 2` in the order of the coordinates; other labels stay as they are."""
    names = [item[2][0] for item in items if item[0] == "rel" and item[1] == ("=",)]
    named = len(names) == len(items) and set(names) <= {("sym", c) for c in "xyz"}
    return sorted(items, key=lambda item: item[2][0]) if named else items


def _in_order(left: Sequence[Node], right: Sequence[Node], policy: Policy) -> bool:
    return len(left) == len(right) and all(
        _item_equal(a, b, policy) for a, b in zip(left, right, strict=True)
    )


def _plain_equal(gold: Node, pred: Node, policy: Policy, signs: tuple[int, int] = (1, 1)) -> bool:
    try:
        return values_equal(gold, pred, policy, signs)
    except Undefined:
        return False


def _regions_equal(gold: Node, pred: Node, policy: Policy) -> bool:
    left, right = as_region(gold), as_region(pred)
    if left is None or right is None:
        return False
    return match_unordered(pieces(left), pieces(right), lambda a, b: _piece_equal(a, b, policy))


def _piece_equal(a: Node, b: Node, policy: Policy) -> bool:
    if a[0] == b[0] == "tuple":
        return a[1:3] == b[1:3] and _in_order(a[3], b[3], policy)
    return a[0] != "tuple" and b[0] != "tuple" and equal(a, b, policy)


def _shaped_equal(gold: Node, pred: Node, policy: Policy) -> bool:
    kinds = (gold[0], pred[0])
    if kinds == ("tuple", "tuple"):
        return gold[1:3] == pred[1:3] and _in_order(gold[3], pred[3], policy)
    if kinds[0] in _REGIONS or kinds[1] in _REGIONS:
        same = kinds == ("minus", "minus") and _parts_equal(gold[1], pred[1], policy)
        return same or _regions_equal(gold, pred, policy)
    if kinds == ("matrix", "matrix"):
        return len(gold[1]) == len(pred[1]) and all(
            _in_order(a, b, policy) for a, b in zip(gold[1], pred[1], strict=True)
        )
    if sorted(kinds) == ["matrix", "tuple"]:
        grid, point = (gold, pred) if kinds[0] == "matrix" else (pred, gold)
        column = [row[0] for row in grid[1]]
        flat = column if all(len(row) == 1 for row in grid[1]) else list(grid[1][0])
        is_vector = len(flat) == sum(len(row) for row in grid[1])
        return is_vector and point[1] + point[2] == "()" and _in_order(flat, point[3], policy)
    if kinds == ("ratio", "ratio"):
        return _ratios_equal(gold[1], pred[1], policy)
    if kinds[0] == kinds[1] and kinds[0] in ("inter", "add", "mul", "div", "neg", "call"):
        return len(gold) == len(pred) and all(
            _parts_equal(a, b, policy) for a, b in zip(gold[1:], pred[1:], strict=True)
        )
    return False


def _parts_equal(a: object, b: object, policy: Policy) -> bool:
    if a == b:
        return True
    if not (isinstance(a, tuple) and isinstance(b, tuple)) or not a or not b:
        return False
    if isinstance(a[0], str) and isinstance(b[0], str):
        return equal(a, b, policy)
    return len(a) == len(b) and all(_parts_equal(x, y, policy) for x, y in zip(a, b, strict=True))


def _quotient(node: Node) -> Node:
    """3:4 as 3/4; a ratio of more parts is not a number."""
    return ("div", *node[1]) if node[0] == "ratio" and len(node[1]) == 2 else node


def _ratios_equal(left: Sequence[Node], right: Sequence[Node], policy: Policy) -> bool:
    if _in_order(left, right, policy):
        return True
    every = (*left, *right)
    if len(left) != len(right) or not all(map(is_plain, every)):
        return False
    if any(has_sign_choice(n) or exact(n) == 0 for n in every):
        return False
    quotients = zip(_by_first(left), _by_first(right), strict=True)
    return all(_plain_equal(a, b, policy) for a, b in quotients)


def _by_first(parts: Sequence[Node]) -> list[Node]:
    return [("div", part, parts[0]) for part in parts[1:]]


def _with_relation(gold: Node, pred: Node, policy: Policy) -> bool:
    if gold[0] == pred[0] == "rel":
        if relations_equal(gold, pred, lambda a, b: equal(a, b, policy)):
            return True
        if symbols(gold) != symbols(pred):
            return False
        left, right = as_region(gold), as_region(pred)
        both = left is not None and right is not None and "rel" not in (left[0], right[0])
        return both and _regions_equal(gold, pred, policy)
    relation, other = (gold, pred) if gold[0] == "rel" else (pred, gold)
    value = labelled_value(relation)
    values = _rounded(relation) or (() if value is None else (value,))
    if relation is pred and _is_total(relation) and is_plain(gold) and not symbols(gold):
        return equal(gold, relation[2][1], policy)
    if values:
        pairs = ((v, other) if relation is gold else (other, v) for v in values)
        return any(equal(*pair, policy) for pair in pairs)
    if set(relation[1]) == {"="} and not symbols(relation) and is_plain(relation[2][-1]):
        return equal(relation[2][-1], other, policy)
    spans = other[0] == "list" and all(item[0] == "rel" for item in other[1])
    if spans or other[0] in ("tuple", "union", "builder", "minus") or has_kind(other, "union"):
        return _regions_equal(relation, other, policy)
    if other[0] in _GROUPING and len(other[1]) == 1:
        return equal(relation, other[1][0], policy)
    return False


def _is_total(relation: Node) -> bool:
    """True for `m + n = 5`: a sum of names, as a question may ask for."""
    total = relation[2][0]
    return relation[1] == ("=",) and total[0] == "add" and all(n[0] == "sym" for n in total[1])


def _rounded(relation: Node) -> tuple[Node, ...]:
    r"""Both sides of `\sqrt{2} \approx 1.414` if no decimal equals the first exactly, else ()."""
    value, decimal = sides = relation[2][-2:]
    plain = relation[1][-1] == "~" and is_plain(value) and is_plain(decimal)
    if not plain or not set(relation[1]) <= {"=", "~"} or symbols(sides):
        return ()
    known = exact(value)
    if (known is not None and is_finite_decimal(known)) or exact(decimal) is None:
        return ()
    return sides if _plain_equal(value, decimal, Policy(relative_tolerance=0.01)) else ()
