"""Equality of two parsed answers: exact, then numeric, then element by element.

Expressions with symbols are equal when they agree at fixed generic points, negative ones included,
to 25 digits: a wrong identity survives that only on a set of measure zero. Where one side is
complex at a point (a branch), the point is skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rlnorm.rewards.math.budget import MAX_ITEMS, OverBudget, Undefined, words
from rlnorm.rewards.math.evaluate import DIGITS, Numeric, exact, has_kind, symbols
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


def _values_equal(a: Any, b: Any, mp: Any, *, decimal: bool, policy: Policy) -> bool:
    gap, size = abs(a - b), max(abs(a), abs(b))
    if gap <= size * mp.mpf(10) ** -25:
        return True
    if gap <= policy.absolute_tolerance or gap <= size * policy.relative_tolerance:
        return True
    return decimal and gap <= mp.mpf("5e-7") and gap * 1000 <= size


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


def numeric_equal(a: Node, b: Node, policy: Policy, signs: tuple[int, int] = (1, 1)) -> bool:
    """Same value at every usable point (one, when there is no symbol)."""
    names = sorted(symbols(a) | symbols(b))
    if len(names) > 12:
        raise OverBudget(f"{len(names)} symbols")
    literal = {_any_decimal(n): n for n in (a, b)}
    # rounding is allowed only between a rounded decimal and an exact value
    decimal = len(literal) == 2 and exact(literal[True]) is not None
    complex_ = has_kind(a, "i") or has_kind(b, "i") or not names
    agreed = 0
    for point in _points(names) if names else [{}]:
        left, right = _at(a, point, signs[0], DIGITS), _at(b, point, signs[1], DIGITS)
        if left is None or right is None:
            continue
        (x, mp), (y, _) = left, right
        if not complex_ and (abs(mp.im(x)) > 1e-20 or abs(mp.im(y)) > 1e-20):
            continue
        if max(abs(x), abs(y)) < mp.mpf(10) ** -15:
            if not _both_vanish(a, b, point, signs):
                return False
        elif not _values_equal(x, y, mp, decimal=decimal, policy=policy):
            return False
        agreed += 1
    return agreed >= (2 if names else 1)


def _at(node: Node, point: dict[str, str], sign: int, digits: int) -> tuple[Any, Any] | None:
    numeric = Numeric({}, sign, digits)
    numeric.values = {name: numeric.mp.mpf(text) for name, text in point.items()}
    try:
        return numeric(node), numeric.mp
    except Undefined:
        return None


def _both_vanish(a: Node, b: Node, point: dict[str, str], signs: tuple[int, int]) -> bool:
    """Distinguish 0 from a tiny value: with three times the digits only a true 0 shrinks."""
    left, right = _at(a, point, signs[0], 3 * DIGITS), _at(b, point, signs[1], 3 * DIGITS)
    if left is None or right is None:
        return False
    (x, mp), (y, _) = left, right
    return bool(abs(x - y) <= max(abs(x), abs(y)) * mp.mpf(10) ** -25) or bool(
        max(abs(x), abs(y)) < mp.mpf(10) ** (-2.5 * DIGITS)
    )


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
