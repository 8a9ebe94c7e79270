"""Values of expression nodes: exact rationals within a bit budget, else 40-digit complex numbers.

Both walk the parsed node; no text is ever handed to an evaluator. Every power, factorial and
function argument is bounded before it is computed.
"""

import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from rlnorm.rewards.math.budget import (
    MAX_BITS,
    MAX_EXPONENT,
    MAX_FACTORIAL,
    OverBudget,
    TooClose,
    Undefined,
    spend,
)
from rlnorm.rewards.math.node import Node

DIGITS = 40


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def exact(node: Node, signs: int = 1) -> Fraction | None:
    """The rational value; None when it is not (seen to be) rational. signs: +1 or -1 for ±."""
    kind = node[0]
    spend()
    if kind == "num":
        number: Fraction = node[1]
        return number
    if kind in ("neg", "pm", "mp"):
        value = exact(node[1], signs)
        flip = kind == "neg" or (kind == "pm") == (signs < 0)
        return None if value is None else (-value if flip else value)
    if kind in ("add", "mul"):
        return _fold(kind, node[1], signs)
    if kind == "div":
        top, bottom = exact(node[1], signs), exact(node[2], signs)
        if bottom == 0:
            raise Undefined("division by 0")
        return None if top is None or bottom is None else _checked(top / bottom)
    if kind == "pow":
        return _power(exact(node[1], signs), exact(node[2], signs))
    if kind == "pct":
        value = exact(node[1], signs)
        return None if value is None else value / 100
    if kind == "based":
        return _in_base(node[1], node[2])
    if kind == "call":
        return _call(node[1], [exact(a, signs) for a in node[2]])
    return None


def _checked(value: Fraction) -> Fraction:
    bits = _bits(value)
    if bits > MAX_BITS:
        raise OverBudget("an integer too long")
    spend(bits)
    return value


def _fold(kind: str, nodes: tuple[Node, ...], signs: int) -> Fraction | None:
    total = Fraction(0 if kind == "add" else 1)
    unknown = False
    for node in nodes:  # every part is visited, so that an Undefined one is found
        value = exact(node, signs)
        if value is None:
            unknown = True
        elif not unknown:
            total = _checked(total + value if kind == "add" else total * value)
    return None if unknown else total


def _in_base(digits: str, base: int) -> Fraction | None:
    if not 2 <= base <= 10 or any(int(d) >= base for d in digits):
        return None
    return Fraction(int(digits, base))


def _power(base: Fraction | None, power: Fraction | None) -> Fraction | None:
    if base is None or power is None:
        return None
    if power.denominator != 1:
        return _rational_root(base, power)
    if base == 0:
        if power <= 0:
            raise Undefined("0 to a power that is not positive")
        return base
    if abs(base) == 1:
        return base if power % 2 else Fraction(1)
    if abs(power) * _bits(base) > MAX_BITS:
        raise OverBudget(f"a power of about {float(min(abs(power), Fraction(10**15))):.3g}")
    return base ** int(power)


def _integer_root(value: int, n: int) -> int | None:
    guess = math.isqrt(value) if n == 2 else round(value ** (1 / n)) if value < 1 << 900 else -1
    return guess if guess >= 0 and guess**n == value else None


def _rational_root(base: Fraction, power: Fraction) -> Fraction | None:
    n = power.denominator
    if base < 0 and n % 2:
        positive = _rational_root(-base, power)
        return positive if positive is None or power.numerator % 2 == 0 else -positive
    if base < 0 or n > 64 or abs(power.numerator) > 64 or _bits(base) > 4096:
        return None
    top, bottom = _integer_root(base.numerator, n), _integer_root(base.denominator, n)
    if top is None or bottom is None:
        return None
    return _power(Fraction(top, bottom), Fraction(power.numerator))


def _integers(values: list[Any]) -> list[int]:
    return [int(v) for v in values] if all(v.denominator == 1 for v in values) else []


def _factorial(n: int) -> Fraction:
    if n < 0:
        raise Undefined("factorial of a negative number")
    if n > MAX_FACTORIAL:
        raise OverBudget("a factorial")
    return Fraction(math.factorial(n))


def _binomial(n: int, k: int) -> Fraction:
    if not 0 <= n <= MAX_FACTORIAL:
        raise OverBudget("a binomial")
    return Fraction(math.comb(n, k) if 0 <= k <= n else 0)


def _modulo(a: Fraction, b: Fraction) -> Fraction:
    if b == 0:
        raise Undefined("mod 0")
    return a % b


_ANY: dict[str, Callable[..., Any]] = {
    "abs": abs, "max": max, "min": min, "mod": _modulo,
    "floor": lambda x: Fraction(math.floor(x)), "ceil": lambda x: Fraction(math.ceil(x)),
    "root": lambda x, n: _power(x, 1 / n) if n else None,
}  # fmt: skip
_ARITY = {"abs": 1, "mod": 2, "floor": 1, "ceil": 1, "root": 2, "factorial": 1, "binom": 2}
_WHOLE: dict[str, Callable[..., Any]] = {
    "factorial": _factorial, "binom": _binomial,
    "gcd": lambda *v: Fraction(math.gcd(*v)), "lcm": lambda *v: Fraction(math.lcm(*v)),
}  # fmt: skip


def _call(name: str, values: list[Fraction | None]) -> Fraction | None:
    if any(v is None for v in values) or len(values) != _ARITY.get(name, len(values)):
        return None
    if name in _ANY:
        found = _ANY[name](*(values if len(values) > 1 or name not in ("max", "min") else [values]))
        return found if found is None else Fraction(found)
    integers = _integers(values)
    return _WHOLE[name](*integers) if name in _WHOLE and integers else None


def symbols(node: Any) -> frozenset[str]:
    """Names of the free symbols in a node."""
    if not isinstance(node, tuple) or not node:
        return frozenset()
    if node[0] == "sym":
        return frozenset((node[1],))
    return frozenset().union(*(symbols(part) for part in node))


def has_kind(node: Any, *kinds: str) -> bool:
    """True when some part of the node is of one of these kinds."""
    if not isinstance(node, tuple) or not node:
        return False
    return node[0] in kinds or any(has_kind(part, *kinds) for part in node)


_contexts = threading.local()


_LADDER = (120, 240, 480, 960, 1920)


def deciding_digits(reach: int) -> tuple[int, int]:
    """The precision that tells two close values apart, and the digit where a difference would show.

    reach is that of Numeric. Raises OverBudget where it would take too many digits to decide.
    """
    extreme = max(0, reach - 100) * 30103 // 100000
    for digits in _LADDER:
        if digits >= 120 + 4 * extreme:
            return digits, 80 + 3 * extreme
    raise OverBudget("too close to decide")


def _context(digits: int) -> Any:
    known: dict[Any, Any] = _contexts.__dict__
    if digits not in known:
        import mpmath

        known[digits] = mpmath.mp.clone()
        known[digits].dps = digits
    return known[digits]


class Numeric:
    """Evaluates nodes with mpmath at one assignment of the symbols and one choice of ±."""

    def __init__(self, values: Mapping[str, Any], signs: int = 1, digits: int = DIGITS) -> None:
        self.mp = _context(digits)
        self.values, self.signs = values, signs
        self.reach = 0
        """The largest |binary exponent| of a value so far; the tiny and the huge need digits."""
        self._weight = 26 * digits
        """Of a power or function, in the bits that spend() counts: it takes 7 ms at 1920 digits."""

    def __call__(self, node: Node) -> Any:
        """A finite mpf or mpc. Raises Undefined for what has no value, or OverBudget."""
        spend()
        try:
            value = self._value(node)
        except (ZeroDivisionError, ValueError, OverflowError, TypeError) as error:
            raise Undefined(str(error)) from error
        if not self.mp.isfinite(value):
            raise Undefined("not finite")
        if value:
            self.reach = max(self.reach, abs(self.mp.mag(value)))
        return value

    def _value(self, node: Node) -> Any:
        mp, kind = self.mp, node[0]
        if kind in ("num", "based"):
            known = exact(node)
            if known is None:
                raise Undefined("no such number")
            return mp.mpf(known.numerator) / known.denominator
        if kind == "sym":
            return self.values[node[1]]
        if kind in ("pi", "e"):
            return +getattr(mp, kind)
        if kind == "i":
            return mp.mpc(0, 1)
        if kind in ("neg", "pm", "mp"):
            flip = kind == "neg" or (kind == "pm") == (self.signs < 0)
            return -self(node[1]) if flip else self(node[1])
        if kind == "add":
            return mp.fsum(self(n) for n in node[1])
        if kind == "mul":
            return mp.fprod(self(n) for n in node[1])
        if kind == "div":
            return self(node[1]) / self(node[2])
        if kind == "pow":
            return self._power(self(node[1]), self(node[2]), exact(node[2], self.signs))
        if kind == "deg":
            return self(node[1]) * mp.pi / 180
        if kind == "pct":
            return self(node[1]) / 100
        if kind == "call":
            outer, self.reach = self.reach, 0  # a step depends on what is inside alone
            value = self._call(node[1], [self(a) for a in node[2]])
            self.reach = max(outer, self.reach)
            return value
        raise Undefined(f"a {kind} has no value")

    def _power(self, base: Any, power: Any, rational: Fraction | None) -> Any:
        spend(self._weight)
        if base == 0:
            if self.mp.re(power) <= 0:
                raise Undefined("0 to a power that is not positive")
            return base
        size = abs(self.mp.log(abs(base), 2)) + 1
        if size * abs(power) > MAX_EXPONENT:
            raise OverBudget("a power")
        odd_root = rational is not None and rational.denominator % 2 and rational.denominator > 1
        if odd_root and not self.mp.im(base) and self.mp.re(base) < 0:
            # the real branch, as taught in school: (-8)^(1/3) is -2
            value = self.mp.power(-self.mp.re(base), power)
            return -value if rational.numerator % 2 else value  # type: ignore[union-attr]  # odd_root implies one
        return self.mp.power(base, power)

    def _call(self, name: str, args: list[Any]) -> Any:
        spend(self._weight)
        if any(abs(a) > MAX_EXPONENT for a in args) and name not in ("root", "abs", "log", "ln"):
            raise OverBudget(f"the argument of {name}")
        if name in ("tanh", "coth"):  # flat far out: 1 - tanh(x) is about exp(-2x)
            self.reach = max(self.reach, int(3 * abs(args[0])))
        if name == "root" and len(args) == 2 and args[1]:
            return self._power(args[0], 1 / args[1], _reciprocal(args[1]))
        if name in ("floor", "ceil", "mod"):
            return self._step(name, *args)
        function = _NUMERIC.get(name)
        if function is None:
            raise Undefined(f"function {name} has no value")
        return function(self.mp, *args)

    def _step(self, name: str, value: Any, divisor: Any = 1) -> Any:
        mp, quotient = self.mp, value / divisor
        nearest = mp.nint(quotient)
        if mp.im(quotient) or abs(quotient - nearest) > 1e-25 * max(1, abs(quotient)):
            whole = mp.ceil(quotient) if name == "ceil" else mp.floor(quotient)
        elif self.reach > _REACH_OF_A_WHOLE:
            raise TooClose("too close to a whole number to decide")
        else:
            whole = nearest
        return value - divisor * whole if name == "mod" else whole


_REACH_OF_A_WHOLE = 60


def _reciprocal(n: Any) -> Fraction | None:
    return Fraction(1, int(n)) if n.imag == 0 and n.real == int(n.real) else None


def _log(mp: Any, x: Any, base: Any = None) -> Any:
    if x == 0:
        raise Undefined("log 0")
    return mp.log(x) if base is None else mp.log(x) / mp.log(base)


def _factorial_numeric(mp: Any, n: Any) -> Any:
    if mp.im(n) or mp.re(n) < 0 or mp.re(n) > MAX_FACTORIAL:
        raise Undefined("factorial outside the natural numbers")
    return mp.factorial(n)


def _binomial_numeric(mp: Any, n: Any, k: Any) -> Any:
    return mp.binomial(n, k)


_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "arsinh": "arcsinh",
            "arcosh": "arccosh", "artanh": "arctanh"}  # fmt: skip
_MP_NAMES = {f"arc{n}": f"a{n}" for n in ("sin", "cos", "tan", "cot", "sec", "csc")}
_MP_NAMES |= {f"arc{n}h": f"a{n}h" for n in ("sin", "cos", "tan")}
_MP_NAMES |= {
    n: n for n in ("sin", "cos", "tan", "cot", "sec", "csc", "exp", "sinh", "cosh", "tanh")
}
_MP_NAMES |= {n: n for n in ("coth", "sech", "csch", "asinh", "acosh", "atanh")}


def _by_name(mp_name: str) -> Callable[..., Any]:
    return lambda mp, x: getattr(mp, mp_name)(x)


_NUMERIC: dict[str, Callable[..., Any]] = {name: _by_name(mp) for name, mp in _MP_NAMES.items()}
_NUMERIC |= {alias: _NUMERIC[name] for alias, name in _ALIASES.items()}
_NUMERIC |= {
    "ln": _log, "log": _log, "lg": lambda mp, x: _log(mp, x, 10), "abs": lambda mp, x: abs(x),
    "cbrt": lambda mp, x: mp.cbrt(x), "factorial": _factorial_numeric, "binom": _binomial_numeric,
    "max": lambda mp, *v: max(v), "min": lambda mp, *v: min(v),
}  # fmt: skip
