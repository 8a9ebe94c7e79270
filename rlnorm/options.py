"""The keyword options of a function or class: their names, and checks of their values."""

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin

from rlnorm.errors import InputError
from rlnorm.lookup import suggest

_EMPTY = inspect.Parameter.empty
_MAPPINGS = (dict, Mapping, MutableMapping)
_SEQUENCES = (list, tuple, set, frozenset, Sequence, Collection, Iterable, AbstractSet)


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
    """Raise InputError for an option that is unknown, missing, or of the wrong type.

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
    if get_origin(hint) is Literal:
        return f"one of {list(get_args(hint))}"
    return (
        hint.__name__
        if isinstance(hint, type) and not get_args(hint)
        else (str(hint).replace("typing.", "").replace("collections.abc.", ""))
    )
