"""Equations and inequalities: labels (`x = 5` is 5), and equality up to a factor."""

from collections.abc import Callable

from rlnorm.rewards.math.budget import Undefined
from rlnorm.rewards.math.compare import has_sign_choice, is_plain
from rlnorm.rewards.math.evaluate import DIGITS, Numeric, deciding_digits, symbols
from rlnorm.rewards.math.node import Node

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
Equal = Callable[[Node, Node], bool]


def is_label(node: Node) -> bool:
    """True for the name of a quantity: x, a_3, AB, NO/BO, f(3), |z|, V_1 : V_2, (x, y)."""
    kind = node[0]
    if kind in ("sym", "text"):
        return True
    if kind in ("e", "i", "call"):
        return kind != "call" or bool(symbols(node))
    if kind == "mul":
        first, rest = node[1][0], node[1][1:]
        return is_label(first) and all(is_label(n) or n[0] in ("num", "tuple") for n in rest)
    if kind == "div":
        return is_label(node[1]) and is_label(node[2])
    if kind == "ratio":
        return all(is_label(n) for n in node[1])
    return kind == "tuple" and all(is_label(n) for n in node[3])


def labelled_value(node: Node) -> Node | None:
    """The right side of `label = value` (the last of a chain), of `label in set`; 5 of `5 = x`."""
    if node[0] != "rel":
        return None
    operators: tuple[str, ...] = node[1]
    sides: tuple[Node, ...] = node[2]
    if operators == ("=",) and sides[1][0] == "sym" and not symbols(sides[0]):
        return sides[0]
    if not is_label(sides[0]):
        return None
    own = symbols(sides[0]) if sides[0][0] == "sym" else frozenset()
    if set(operators) <= {"=", "~"} and not own & symbols(sides[-1]):
        return sides[-1]
    if operators == ("in",):
        return sides[1]
    return None


def _difference(sides: tuple[Node, ...]) -> Node:
    return ("add", (sides[0], ("neg", sides[1])))


def _factor_between(a: Node, b: Node) -> int:
    """Sign of c when a = c * b at every point for one constant c; 0 when there is none."""
    names = sorted(symbols(a) | symbols(b))
    if symbols(a) != symbols(b) or not names or len(names) > 12:
        return 0
    sign, reach = _constant_ratio(a, b, names, DIGITS, 20)
    return _constant_ratio(a, b, names, *deciding_digits(reach))[0] if sign else 0


def _constant_ratio(a: Node, b: Node, names: list[str], digits: int, place: int) -> tuple[int, int]:
    """Sign of the ratio if it agrees to that place at all points, else 0; the reach of both."""
    ratios = []
    reach = 0
    for k in range(5):
        numeric = Numeric({}, digits=digits)
        numeric.values = {
            # distinct irrational-looking values, some of them negative
            name: numeric.mp.mpf((-1) ** (k * (j + 1))) * numeric.mp.sqrt(7 * k + 13 * j + 2)
            for j, name in enumerate(names)
        }
        try:
            top, bottom = numeric(a), numeric(b)
        except Undefined:
            continue
        reach = max(reach, numeric.reach)
        tiny = numeric.mp.mpf(10) ** (-place - 5)
        if abs(top) < tiny or abs(bottom) < tiny:
            if abs(top) < tiny and abs(bottom) < tiny:
                continue
            return 0, reach
        ratios.append(top / bottom)
    least = abs(ratios[0]) * numeric.mp.mpf(10) ** -place if ratios else 0
    if len(ratios) < 3 or any(abs(r - ratios[0]) > least for r in ratios):
        return 0, reach
    if abs(ratios[0].imag) > 1e-20:
        return 0, reach
    return (1 if ratios[0].real > 0 else -1), reach


def relations_equal(gold: Node, pred: Node, equal: Equal) -> bool:
    """Same relation, whichever way round it is written and up to a common factor."""
    (ops, sides), (other_ops, others) = gold[1:], pred[1:]
    if ops == ("in",) or other_ops == ("in",):
        return _memberships_equal(gold, pred, equal)
    if len(ops) == len(other_ops) and _same_chain(ops, sides, other_ops, others, equal):
        return True
    turned = tuple(_FLIPPED.get(op, op) for op in reversed(other_ops))
    if len(ops) == len(turned) and _same_chain(ops, sides, turned, others[::-1], equal):
        return True
    if (len(ops) > 1 and set(ops) == {"="}) or (len(other_ops) > 1 and set(other_ops) == {"="}):
        left, right = labelled_value(gold), labelled_value(pred)
        return left is not None and right is not None and equal(left, right)
    every = (*sides, *others)
    if not (len(ops) == len(other_ops) == 1 and all(map(is_plain, every))):
        return False
    if any(map(has_sign_choice, every)):
        return False
    sign = _factor_between(_difference(sides), _difference(others))
    wanted = other_ops[0] if sign > 0 else _FLIPPED.get(other_ops[0])
    return sign != 0 and ops[0] == wanted


def _same_chain(
    ops: tuple[str, ...],
    sides: tuple[Node, ...],
    other_ops: tuple[str, ...],
    others: tuple[Node, ...],
    equal: Equal,
) -> bool:
    return ops == other_ops and all(equal(a, b) for a, b in zip(sides, others, strict=True))


def _memberships_equal(gold: Node, pred: Node, equal: Equal) -> bool:
    left, right = labelled_value(gold), labelled_value(pred)
    if left is None or right is None:
        return False
    return bool(gold[2][0] == pred[2][0]) and equal(left, right)
