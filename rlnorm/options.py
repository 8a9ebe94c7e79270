"""The keyword options of a function or class: their names, and checks of their values.

A hint such as `eps: NonNegative` states the numbers that are allowed; `checked` refuses others
where the function is called directly, `check_options` where a config names it.
"""

import functools
import inspect
import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    NewType,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from rlnorm.errors import InputError
from rlnorm.lookup import suggest

_EMPTY = inspect.Parameter.empty
_MAPPINGS = (dict, Mapping, MutableMapping)
_SEQUENCES = (list, tuple, set, frozenset, Sequence, Collection, Iterable, AbstractSet)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Within:
    """The numbers that an option may have, as part of its hint."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    """The option must be more than low."""
    infinite: bool = False
    """The option may be infinite."""

    def holds(self, value: float) -> bool:
        """True for an allowed number."""
        over = value > self.low if self.above else value >= self.low
        return over and value <= self.high and (self.infinite or math.isfinite(value))

    def __str__(self) -> str:
        """The end of a sentence that begins with "needs"."""
        if self.high < math.inf and self.low > -math.inf:
            return f"a value in {'(' if self.above else '['}{self.low:g}, {self.high:g}]"
        if self.high < math.inf:
            text = f"{self.high:g} or less"
        else:
            text = f"more than {self.low:g}" if self.above else f"{self.low:g} or more"
        return text if self.infinite else f"{text}, and finite"


NonNegative = Annotated[float, Within(0)]
Positive = Annotated[float, Within(0, above=True)]
Bound = Annotated[float, Within(0, above=True, infinite=True)]
"""Above 0; infinite where nothing is to be bounded."""
Share = Annotated[float, Within(0, 1)]
SomeShare = Annotated[float, Within(0, 1, above=True)]
"""More than nothing."""
Ddof = Annotated[int, Within(0, 1)]
"""What is taken from the count in a standard deviation: 0 the population's, 1 unbiased."""
Count = Annotated[int, Within(1, infinite=True)]
Index = Annotated[int, Within(0, infinite=True)]


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only options with their defaults; Parameter.empty where one must be given."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check_options(
    where: str,
    name: str,
    function: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    positional: bool = False,
) -> None:
    """Raise InputError for an option that is unknown, missing, of the wrong type or out of bounds.

    where: precedes the option in a message. positional: parameters that may also be given by
    position count as options too. Without a type hint the default's type is what is allowed.
    """
    parameters = inspect.signature(function).parameters
    known = {
        key: p
        for key, p in parameters.items()
        if p.kind is p.KEYWORD_ONLY or (positional and p.kind is p.POSITIONAL_OR_KEYWORD)
    }
    if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        for option, value in options.items():
            if option not in known:
                raise InputError(
                    f"{where}{option} = {value!r}: {name} takes {sorted(known)}"
                    f"{suggest(option, known)}"
                )
    for option, parameter in known.items():
        if option not in options:
            if parameter.default is _EMPTY:
                raise InputError(f"{where}{option}: {name} needs a value for it")
            continue
        value, hint = options[option], _hint(function, parameter)
        if value is not parameter.default and not fits(value, hint):
            raise InputError(
                f"{where}{option} = {value!r} ({type(value).__name__}): {name} takes "
                f"{_describe(hint)}"
            )
        if (bounds := _broken(value, hint)) is not None:
            raise InputError(f"{where}{option} = {value!r}, needs {bounds}")
    _check_rule(where, function, options)


def checked(
    rule: Callable[..., str] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of stages: a direct call is checked as a config is.

    rule: a function of several of the options; what it returns, unless it is "", is wrong with
    them together. The call raises ValueError for a missing column or a wrong option.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        kinds = inspect.signature(function).parameters.values()
        columns = [p for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]
        needed = [p.name if p.default is _EMPTY else "" for p in columns]
        names = {p.name for p in columns}
        name = function.__name__.removeprefix("select_")

        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> R:
            missing = [n for n in needed[len(args) :] if n and n not in given]
            if missing == ["group_index"]:
                given["group_index"] = None  # the function says how to give it
            elif missing:
                raise ValueError(f"{name}: needs {missing}, got {sorted(given)}")
            options = {key: value for key, value in given.items() if key not in names}
            check_options(f"{name}: ", name, call, options)
            return function(*args, **given)

        call.option_rule = rule  # type: ignore[attr-defined]  # read by _check_rule
        return call

    return decorate


def _check_rule(where: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    rule = getattr(function, "option_rule", None)
    if rule is not None:
        values = {**options_of(function), **options}
        if wrong := rule(*(values[name] for name in inspect.signature(rule).parameters)):
            raise InputError(f"{where}{wrong}")


def fits(value: Any, hint: Any) -> bool:
    """True where a value is of a type hint; a hint that cannot be checked admits everything.

    An int fits float, a list fits every sequence, as in a YAML file; a bool or NaN is no number.
    """
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is Literal:
        return any(value == a and type(value) is type(a) for a in arguments)
    if origin is Annotated:
        return fits(value, arguments[0])
    if isinstance(hint, NewType):
        return fits(value, hint.__supertype__)
    if origin in (int, float):
        kinds = (int, float) if origin is float else int
        return isinstance(value, kinds) and not isinstance(value, bool) and value == value
    if hint is None:
        return value is None
    if origin in _MAPPINGS:
        key, item = arguments or (Any, Any)
        return isinstance(value, Mapping) and all(
            fits(k, key) and fits(v, item) for k, v in value.items()
        )
    if origin in _SEQUENCES:
        return _fits_sequence(value, origin, arguments)
    if not isinstance(origin, type):
        return True
    try:
        return isinstance(value, origin)
    except TypeError:  # a protocol or a TypedDict, which cannot be checked at run time
        return True


def _broken(value: Any, hint: Any) -> Within | None:
    """The bounds of a hint that a value of its type does not keep."""
    if get_origin(hint) in (Union, types.UnionType):
        return next((_broken(value, part) for part in get_args(hint) if fits(value, part)), None)
    if get_origin(hint) is not Annotated:
        return None
    bounds = [b for b in get_args(hint)[1:] if isinstance(b, Within) and not b.holds(value)]
    return bounds[0] if bounds else None


def _fits_sequence(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple | AbstractSet):
        return not isinstance(value, str | bytes | Mapping) and isinstance(value, origin)
    if origin is tuple and arguments and arguments[-1] is not ...:
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(item, arguments[0]) for item in value) if arguments else True


def _hint(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The parameter's type; its default's type if it has no usable annotation."""
    hint = parameter.annotation
    if isinstance(hint, str):
        code = function.__init__ if inspect.isclass(function) else inspect.unwrap(function)
        names = getattr(code, "__globals__", getattr(type(code).__call__, "__globals__", {}))
        try:
            hint = eval(hint, names)
        except (NameError, AttributeError, TypeError, SyntaxError):  # imported for mypy only
            hint = _EMPTY
    if hint is not _EMPTY:
        return hint
    default = parameter.default
    if default is _EMPTY or default is None:
        return Any
    if isinstance(default, int | float) and not isinstance(default, bool):
        return float  # 1 may well stand for 1.0
    return next((t for t in (bool, str, Mapping, Sequence) if isinstance(default, t)), Any)


def _describe(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return _describe(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(_describe(part) for part in get_args(hint))
    if hint is types.NoneType:
        return "None"
    if get_origin(hint) is Literal:
        return f"one of {list(get_args(hint))}"
    return (
        hint.__name__
        if isinstance(hint, type) and not get_args(hint)
        else (str(hint).replace("typing.", "").replace("collections.abc.", ""))
    )
