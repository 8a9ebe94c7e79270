"""Matrix arithmetic in an answer: sums, multiples, products, powers and transposes, as one matrix.

Entries stay expressions; nothing is evaluated here. What is not defined, as a sum of two shapes, is
left as it was written and equals only itself.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction

from rlnorm.rewards.math.budget import OverBudget
from rlnorm.rewards.math.evaluate import exact, has_kind
from rlnorm.rewards.math.node import Node

_MAX_PRODUCTS = 2000
_MAX_POWER = 12
_MAX_DETERMINANT = 5
_TRANSPOSES = (("sym", "T"), ("sym", "\\top"), ("sym", "\\intercal"))
Rows = tuple[tuple[Node, ...], ...]


def reduced(node: Node) -> Node:
    """The node with its matrix arithmetic carried out where that is defined."""
    kind = node[0]
    if kind in ("add", "mul"):
        parts = [reduced(part) for part in node[1]]
        return _joined(parts, _sum if kind == "add" else _product) or (kind, tuple(parts))
    if kind == "neg":
        return _product(_MINUS_ONE, reduced(node[1])) or node
    if kind == "div" and not has_kind(node[2], "matrix"):
        top = reduced(node[1])
        return _each(top, lambda entry: ("div", entry, node[2])) if _is_matrix(top) else node
    if kind == "call" and node[1] == "det" and len(node[2]) == 1:
        return _determinant(reduced(node[2][0])) or node
    if kind == "pow":
        return _power(reduced(node[1]), node[2]) or node
    if kind == "tuple" and len(node[3]) == 1 and node[1] + node[2] in ("()", "[]"):
        return reduced(node[3][0])
    return node


def _joined(parts: Sequence[Node], join: Callable[[Node, Node], Node | None]) -> Node | None:
    """The parts joined from left to right; None as soon as two of them do not fit."""
    found: Node | None = parts[0]
    for part in parts[1:]:
        found = None if found is None else join(found, part)
    return found


_MINUS_ONE: Node = ("num", Fraction(-1), False)


def _is_matrix(node: Node) -> bool:
    return bool(node[0] == "matrix" and node[1] and len({len(row) for row in node[1]}) == 1)


def _each(matrix: Node, change: Callable[[Node], Node]) -> Node:
    return ("matrix", tuple(tuple(change(entry) for entry in row) for row in matrix[1]))


def _sum(left: Node, right: Node) -> Node | None:
    if not _is_matrix(left) or not _is_matrix(right):
        return None
    a, b = left[1], right[1]
    if len(a) != len(b) or len(a[0]) != len(b[0]):
        return None
    return ("matrix", tuple(tuple(map(_plus, x, y)) for x, y in zip(a, b, strict=True)))


def _plus(a: Node, b: Node) -> Node:
    return ("add", (a, b))


def _times(a: Node, b: Node) -> Node:
    return ("mul", (a, b))


def _product(left: Node, right: Node) -> Node | None:
    if not _is_matrix(left) and not _is_matrix(right):
        return _times(left, right)
    if not _is_matrix(right):
        left, right = right, left
    if _is_matrix(left):
        return _matrix_product(left[1], right[1])
    if has_kind(left, "matrix", "list", "set", "tuple", "text"):
        return None
    return _each(right, lambda entry: _times(left, entry))


def _matrix_product(a: Rows, b: Rows) -> Node | None:
    if len(a[0]) != len(b):
        return None
    if len(a) * len(b) * len(b[0]) > _MAX_PRODUCTS:
        raise OverBudget("a product of large matrices")
    columns = list(zip(*b, strict=True))
    return ("matrix", tuple(tuple(_dot(row, column) for column in columns) for row in a))


def _dot(row: Sequence[Node], column: Sequence[Node]) -> Node:
    return ("add", tuple(map(_times, row, column)))


def _power(base: Node, power: Node) -> Node | None:
    if not _is_matrix(base):
        return None
    if power in _TRANSPOSES:
        return ("matrix", tuple(zip(*base[1], strict=True)))
    n = exact(power)
    if n is None or n.denominator != 1 or not 1 <= n <= _MAX_POWER:
        return None
    return _joined([base] * int(n), _product)


def _determinant(matrix: Node) -> Node | None:
    """By expansion along the first row."""
    if not _is_matrix(matrix) or not len(matrix[1]) == len(matrix[1][0]) <= _MAX_DETERMINANT:
        return None
    first, *rest = matrix[1]
    if not rest:
        only: Node = first[0]
        return only
    terms = []
    for column, entry in enumerate(first):
        minor = ("matrix", tuple(row[:column] + row[column + 1 :] for row in rest))
        rest_of_term = _determinant(minor)
        if rest_of_term is None:
            return None
        term = _times(entry, rest_of_term)
        terms.append(_times(_MINUS_ONE, term) if column % 2 else term)
    return ("add", tuple(terms))
