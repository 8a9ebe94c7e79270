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

from rlnorm.rewards.math.budget import MAX_ITEMS, OutOfWork, OverBudget, TooClose, Undefined, words
from rlnorm.rewards.math.evaluate import (
    DIGITS,
    Numeric,
    deciding_digits,
    exact,
    has_kind,
    symbols,
)
from rlnorm.rewards.math.node import Node
from rlnorm.rewards.math.points import (
    Point,
    far_points,
    generic_points,
    is_piecewise,
    numbers_in,
    scattered_points,
    step_points,
    whole_points,
)

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
        self,
        points: Sequence[Point],
        *,
        skip_undecided: bool = False,
        at_steps: bool = False,
        enough: int = 1000,
    ) -> tuple[int, int] | None:
        """At how many points both have the same value, and a value other than 0; None if not."""
        agreed = nonzero = 0
        for point in points:
            try:
                same = self._same(point)
            except OverBudget as error:
                never_skipped = (OutOfWork, TooClose) if at_steps else OutOfWork
                if not skip_undecided or isinstance(error, never_skipped):
                    raise
                continue
            if same is False:
                return None
            agreed += same is not None
            nonzero += same == "not 0"
            if agreed >= enough:
                break
        return agreed, nonzero

    def _same(self, point: Point) -> bool | str | None:
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
    found = pair.agreed(generic_points(names) if names else [{}])
    if not names or found is None:
        return found is not None and found[0] == 1
    if is_piecewise(a) or is_piecewise(b):
        return _same_steps(pair, names)
    return found[0] >= 2 or _same_where_real(pair, names)


def _same_steps(pair: _Pair, names: Sequence[str]) -> bool:
    # near 0 the floor of x vanishes, and so does twice the floor
    largest = min(int(max(numbers_in((pair.a, pair.b)), default=0)), 10**9)
    found = pair.agreed(far_points(names, largest), skip_undecided=True)
    if found is None:
        return False
    nonzero = found[1]
    for node, sign in zip((pair.a, pair.b), pair.signs, strict=True):
        found = pair.agreed(step_points(node, sign, names), skip_undecided=True, at_steps=True)
        if found is None:
            return False
        nonzero += found[1]
    return nonzero >= 2


def _same_where_real(pair: _Pair, names: Sequence[str]) -> bool:
    """For what is seldom real: `\\ln(x-10)` beyond 10 only, `(-1)^n` at whole numbers only."""
    numbers = sorted(numbers_in((pair.a, pair.b)))
    found = pair.agreed(scattered_points(names, numbers), skip_undecided=True, enough=4)
    if found is None or found[0] >= 2:
        return found is not None
    found = pair.agreed(whole_points(names))
    return found is not None and found[0] >= 5


def _at(node: Node, point: Point, sign: int, digits: int = DIGITS) -> tuple[Any, Numeric] | None:
    numeric = Numeric({}, sign, digits)
    numeric.values = {name: numeric.mp.mpf(text) for name, text in point.items()}
    try:
        return numeric(node), numeric
    except Undefined:
        return None


def _same_in_detail(a: Node, b: Node, point: Point, signs: tuple[int, int], reach: int) -> bool:
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
