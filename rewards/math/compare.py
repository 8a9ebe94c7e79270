"""Equality of two parsed answers: exact, then numeric, then element by element.

Expressions with symbols are equal when they agree at fixed generic points, negative ones included,
to 80 digits, more where a part is tiny or huge: a wrong identity survives that only on a set of
measure zero. Where one side is complex at a point (a branch), the point is skipped. What would take
too many digits to decide is not equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rlnorm.rewards.math.budget import MAX_ITEMS, OverBudget, Undefined, words
from rlnorm.rewards.math.evaluate import (
    DIGITS,
    Numeric,
    deciding_digits,
    exact,
    has_kind,
    symbols,
)
from rlnorm.rewards.math.node import Node

_POINTS = ("0.7390851332", "2.2360679774", "-1.3247179572", "0.2886751345", "-0.5671432904")
_SIX_PLACES = Fraction(1, 2 * 10**6)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a data set allows beyond exact equality."""

    relative_tolerance: float = 0.0
    absolute_tolerance: float = 0.0
    percent: str = "ignore"
    """ignore: 10% is 10; value: 10% is also 0.1; strict: both sides carry the sign."""
    units: str = "agree"
    """agree: a unit on both sides must be the same; ignore: never compared."""


def _any_decimal(node: Any) -> bool:
    if not isinstance(node, tuple) or not node:
        return False
    if node[0] == "num":
        return bool(node[2])
    return any(_any_decimal(part) for part in node)


def _spelled(value: Fraction) -> bool:
    """True for a decimal of at most six places, which leaves no room for rounding."""
    return 10**6 % value.denominator == 0


def is_finite_decimal(value: Fraction) -> bool:
    """True when some decimal spells the value."""
    bottom = value.denominator
    return bottom.bit_length() < 4096 and 10 ** (bottom.bit_length() + 1) % bottom == 0


def rationals_equal(a: Fraction, b: Fraction, *, decimal: bool, policy: Policy) -> bool:
    """a is the gold. Exact, except that a decimal may be a fraction rounded at six places."""
    if a == b:
        return True
    gap, size = abs(a - b), max(abs(a), abs(b))
    if gap <= Fraction(policy.absolute_tolerance) or gap <= size * Fraction(
        policy.relative_tolerance
    ):
        return True
    if not decimal or (_spelled(a) and is_finite_decimal(b)):
        return False
    return gap <= _SIX_PLACES and gap * 1000 <= size


def _tolerated(gap: Any, size: Any, mp: Any, *, decimal: bool, policy: Policy) -> bool:
    allowed = max(policy.absolute_tolerance, size * policy.relative_tolerance)
    if allowed > 0 and gap <= allowed:
        return True
    return bool(decimal and gap <= mp.mpf("5e-7") and gap * 1000 <= size)


def _points(names: Sequence[str]) -> list[dict[str, str]]:
    out = []
    for shift, base in enumerate(_POINTS):
        negative = base.startswith("-")
        # digits of each symbol differ, and signs alternate on the negative points
        values = {}
        for k, name in enumerate(names):
            digits = (
                f"{(shift + 3 * k) % 3}.{(7919 * (k + 1) + 104729 * (shift + 1)) % 999983:06d}71"
            )
            values[name] = ("-" if negative and (k + shift) % 2 == 0 else "") + digits
        out.append(values)
    return out


def _whole_points(names: Sequence[str]) -> list[dict[str, str]]:
    """Integers of every remainder by 2, 3 and 4, different for each name."""
    return [
        {name: str(whole + (3 + i) * k) for k, name in enumerate(names)}
        for i, whole in enumerate((2, 3, 5, 8, 12, 19, 30))
    ]


def _far_points(names: Sequence[str], largest: int) -> list[dict[str, str]]:
    """Far apart, and at wholes and halves, where a function with steps or a bend shows them."""
    beyond = 3 * largest + 70001
    apart = [
        {n: f"{sign}{a + 7 * k}.{618 + 41 * k}" for k, n in enumerate(names)}
        for a, sign in ((6, ""), (53, ""), (911, ""), (beyond, ""), (23, "-"), (beyond, "-"))
    ]
    halves = [{n: f"{a + 2 * k}.5" for k, n in enumerate(names)} for a in (3, 14)]
    return apart + halves + _whole_points(names)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two expressions that are compared at points; signs: +1 or -1 for the ± in each."""

    a: Node
    b: Node
    signs: tuple[int, int]
    policy: Policy
    decimal: bool
    complex: bool

    def agreed(
        self, points: Sequence[dict[str, str]], *, skip_undecided: bool = False
    ) -> tuple[int, int] | None:
        """At how many points both have the same value, and a value other than 0; None if not."""
        agreed = nonzero = 0
        for point in points:
            try:
                same = self._same(point)
            except OverBudget:
                if not skip_undecided:
                    raise
                continue
            if same is False:
                return None
            agreed += same is not None
            nonzero += same == "not 0"
        return agreed, nonzero

    def _same(self, point: dict[str, str]) -> bool | str | None:
        left, right = _at(self.a, point, self.signs[0]), _at(self.b, point, self.signs[1])
        if left is None or right is None:
            return None
        (x, numeric), (y, other) = left, right
        mp, gap, size = numeric.mp, abs(x - y), max(abs(x), abs(y))
        if not self.complex and (abs(mp.im(x)) > 1e-20 or abs(mp.im(y)) > 1e-20):
            return None
        if not _tolerated(gap, size, mp, decimal=self.decimal, policy=self.policy):
            if gap > size * mp.mpf(10) ** -25 and size > mp.mpf(10) ** -15:
                return False
            reach = max(numeric.reach, other.reach)
            if not _same_in_detail(self.a, self.b, point, self.signs, reach):
                return False
        return "not 0" if size > 1e-15 else True


def numeric_equal(a: Node, b: Node, policy: Policy, signs: tuple[int, int] = (1, 1)) -> bool:
    """Same value at every usable point (one, when there is no symbol)."""
    names = sorted(symbols(a) | symbols(b))
    if len(names) > 12:
        raise OverBudget(f"{len(names)} symbols")
    literal = {_any_decimal(n): n for n in (a, b)}
    # rounding is allowed only between a rounded decimal and an exact value
    decimal = len(literal) == 2 and exact(literal[True]) is not None
    complex_ = has_kind(a, "i") or has_kind(b, "i") or not names
    pair = _Pair(a, b, signs, policy, decimal, complex_)
    found = pair.agreed(_points(names) if names else [{}])
    if not names or found is None:
        return found is not None and found[0] == 1
    if _calls(a, _PIECEWISE) or _calls(b, _PIECEWISE):
        # near 0 the floor of x vanishes, and so does twice the floor
        largest = min(int(_largest(("add", (a, b)))), 10**9)
        found = pair.agreed(_far_points(names, largest), skip_undecided=True)
        return found is not None and found[1] >= 2
    if found[0] < 2:  # (-1)^n is real at whole numbers only
        found = pair.agreed(_whole_points(names))
        return found is not None and found[0] >= 5
    return True


_PIECEWISE = words("floor ceil mod max min abs")


def _calls(node: Any, names: frozenset[str]) -> bool:
    """True when one of these functions is called in the node."""
    if not isinstance(node, tuple) or not node:
        return False
    return (node[0] == "call" and node[1] in names) or any(_calls(part, names) for part in node)


def _largest(node: Any) -> Fraction:
    """The largest size of a number in the node."""
    if not isinstance(node, tuple) or not node:
        return Fraction(0)
    if node[0] == "num":
        return abs(Fraction(node[1]))
    return max(map(_largest, node), default=Fraction(0))


def _at(
    node: Node, point: dict[str, str], sign: int, digits: int = DIGITS
) -> tuple[Any, Numeric] | None:
    numeric = Numeric({}, sign, digits)
    numeric.values = {name: numeric.mp.mpf(text) for name, text in point.items()}
    try:
        return numeric(node), numeric
    except Undefined:
        return None


def _same_in_detail(
    a: Node, b: Node, point: dict[str, str], signs: tuple[int, int], reach: int
) -> bool:
    """True when two close values agree with so many digits that no difference can hide."""
    digits, place = deciding_digits(reach)
    left, right = _at(a, point, signs[0], digits), _at(b, point, signs[1], digits)
    if left is None or right is None:
        return False
    (x, numeric), (y, _) = left, right
    size, least = max(abs(x), abs(y)), numeric.mp.mpf(10) ** -place
    return bool(size < least or abs(x - y) <= size * least)


_STRUCTURES = words(
    "list tuple set rel union inter minus matrix ratio groups text dots builder unit inf"
)


def values_equal(a: Node, b: Node, policy: Policy, signs: tuple[int, int] = (1, 1)) -> bool:
    """Equality of two expressions without structure."""
    if a == b and signs[0] == signs[1]:
        exact(a, signs[0])  # raises Undefined: what has no value equals nothing, not even itself
        return True
    x, y = exact(a, signs[0]), exact(b, signs[1])
    if x is not None and y is not None:
        decimal = _any_decimal(a) or _any_decimal(b)
        return rationals_equal(x, y, decimal=decimal, policy=policy)
    return numeric_equal(a, b, policy, signs)


def is_plain(node: Node) -> bool:
    """True for an expression that can have one value."""
    return not has_kind(node, *_STRUCTURES)


def has_sign_choice(node: Node) -> bool:
    """True when a ± or ∓ occurs in it."""
    return has_kind(node, "pm", "mp")


def match_unordered(
    left: Sequence[Any], right: Sequence[Any], equal: Any, *, limit: int = MAX_ITEMS
) -> bool:
    """True when the two can be paired off as sets: each has an equal on the other side."""
    if left == right:
        return True
    if len(left) > limit or len(right) > limit:
        raise OverBudget(f"a list of more than {limit}")
    if not left or not right:
        return not left and not right
    return all(any(equal(a, b) for b in right) for a in left) and all(
        any(equal(a, b) for a in left) for b in right
    )
