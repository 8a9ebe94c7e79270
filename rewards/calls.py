"""Turns a user's reward (function, coroutine, class) into one callable form, Call.

A function's positional parameters are data: `sample` (or any single name) gets the Sample,
`samples` or `batch` gets the list, names of Sample fields (`completion`, `gold`, ...) get those
fields, and `scores` gets the scores of the components that do not themselves take `scores`.
Its keyword-only parameters are options from the config. A class gets the options in its
constructor and has either `__call__` (a function as above) or `score(batch) -> list[Score]`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rlnorm.errors import InputError, code_of_user
from rlnorm.lookup import suggest
from rlnorm.options import check_options
from rlnorm.rewards.types import Sample

SAMPLE_FIELDS = (*Sample.__dataclass_fields__, "full_text", "after_reasoning")
_BATCH_NAMES = ("samples", "batch")
_SPREAD = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_GOLD_NAMES = ("answer", "answers", "solution", "ground_truth", "reference", "target", "label")
"""What the gold is often called elsewhere."""


F = TypeVar("F", bound=Callable[..., Any])


def inline(function: F) -> F:
    """Mark a reward as safe in the parent process: pure, and of bounded cost on any text."""
    function.runs_inline = True  # type: ignore[attr-defined]  # a mark on a user's function
    return function


@dataclass(frozen=True, slots=True)
class Call:
    """A resolved reward with its options bound."""

    where: Literal["inline", "pool", "loop", "thread"]
    """The parent process, a killable worker, the caller's event loop (rlnorm's own coroutines and
    those that use the pool), or the loop of a thread (users' coroutines)."""
    batched: bool
    """True when one call takes all samples."""
    needs_scores: bool
    """True when it runs after the others and an item is (sample, scores by component)."""
    invoke: Callable[..., Any]
    """invoke(sample), or invoke(samples) when batched, or invoke((sample, scores))."""
    target: Any
    """The function, or the instance of a class; holds `components`, `attach` and `close`."""

    @property
    def own_components(self) -> tuple[str, ...]:
        """The component names that it declares and returns."""
        return tuple(getattr(self.target, "components", ()) or ())


def _data_names(function: Callable[..., Any], where: str) -> list[str]:
    """The data parameters of a reward. Raises InputError, with the right form, for any other."""
    parameters = inspect.signature(function).parameters.values()
    data = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    names = [p.name for p in data]
    if len(names) == 1 and names[0] in _BATCH_NAMES and data[0].kind not in _SPREAD:
        return ["samples"]
    known = (*SAMPLE_FIELDS, "sample", "scores")
    if _is_ours(function) and len(names) == 1 and names[0] not in known:
        return ["sample"]  # what rlnorm itself sends to a worker need not be a Sample
    name = getattr(function, "__name__", "__call__")
    form = "lambda sample: ..." if name == "<lambda>" else f"def {name}(sample)"
    if name == "__call__":
        form = "def __call__(self, sample)"
    for p in data:
        if p.name not in known or p.kind in _SPREAD:
            near = "gold" if p.name in _GOLD_NAMES else p.name
            raise InputError(
                f"{where}.function: parameter `{p}`{suggest(near, known)}: write `{form}`, which "
                f"gets a Sample, or take {', '.join(known[:-2])} by name; options stand after a `*`"
            )
    if not names:
        raise InputError(f"{where}.function: takes no data: write `{form}`, which gets a Sample")
    return names


def _check_score(target: Any, where: str) -> None:
    """Refuse a `score` method that does not take a list of samples."""
    parameters = inspect.signature(target.score).parameters.values()
    data = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    names = [str(p) for p in data]
    if len(data) != 1 or data[0].name not in _BATCH_NAMES or data[0].kind in _SPREAD:
        raise InputError(
            f"{where}.function: score({', '.join(names)}): write `def score(self, samples)`, which "
            "gets a list of Samples and returns one score for each"
        )


def _loop_of(target: Any) -> Literal["loop", "thread"]:
    return "loop" if _is_ours(target) or hasattr(target, "attach") else "thread"


def _is_ours(target: Any) -> bool:
    return str(getattr(target, "__module__", "")).startswith("rlnorm.rewards.")


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def build_call(target: Any, options: Mapping[str, Any], where: str) -> Call:
    """Bind options, find out what the callable takes and where it may run.

    where: the reward's name in error messages, like "rewards.correct".
    """
    if inspect.isclass(target):
        check_options(f"{where}.options.", target.__name__, target, options, positional=True)
        with code_of_user(where):
            target, options = target(**options), {}
    if hasattr(target, "score"):
        _check_score(target, where)
        place = _loop_of(target) if _is_async(target.score) else "pool"
        return Call(place, True, False, target.score, target)
    if not callable(target):
        raise InputError(
            f"{where}.function: {target!r} is neither callable nor has a `score` method"
        )
    check_options(f"{where}.options.", getattr(target, "__name__", "it"), target, options)
    names = _data_names(target, where)
    batched, needs_scores = names == ["samples"], "scores" in names
    invoke = _batch_form(target, options) if batched else _item_form(target, names, options)
    if _is_async(target):
        return Call(_loop_of(target), batched, needs_scores, invoke, target)
    runs_inline = getattr(target, "runs_inline", False)
    return Call("inline" if runs_inline else "pool", batched, needs_scores, invoke, target)


def _batch_form(target: Callable[..., Any], options: Mapping[str, Any]) -> Callable[[Any], Any]:
    return lambda samples: target(samples, **options)


def _item_form(
    target: Callable[..., Any], names: list[str], options: Mapping[str, Any]
) -> Callable[[Any], Any]:
    if names == ["sample"]:
        return lambda sample: target(sample, **options)

    def invoke(item: Any) -> Any:
        sample, scores = item if "scores" in names else (item, None)
        special = {"sample": sample, "scores": scores}
        data = [special[n] if n in special else getattr(sample, n) for n in names]
        return target(*data, **options)

    return invoke


def declared_components(call: Call, listed: Sequence[str], name: str) -> tuple[str, ...]:
    """Component names: the spec's, else the class's if it has several, else the reward's name."""
    if listed:
        return tuple(listed)
    return call.own_components if len(call.own_components) > 1 else (name,)
