"""Conformance tests for your own reward: `check_reward(my_reward, samples)`.

Duck-typed on purpose: it needs neither the rewards package nor torch, only the function and a few
samples to feed it (objects with `completion`, `gold`, ...).
"""

import asyncio
import inspect
import math
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlnorm.from_python import pickled

_BATCH_NAMES = ("samples", "batch")
_FAILED = ("timeout", "gold_error", "infra_error")


@dataclass(frozen=True, slots=True)
class RewardReport:
    """What check_reward saw; `problems` is empty when the reward keeps its contract."""

    problems: tuple[str, ...]
    seconds_mean: float
    seconds_max: float
    values: tuple[Mapping[str, float], ...]


def check_reward(
    reward: Callable[..., Any] | Any,
    samples: Sequence[Any],
    *,
    components: Sequence[str] = (),
    seconds_per_sample: float = 0.1,
    options: Mapping[str, Any] | None = None,
) -> RewardReport:
    """Raise AssertionError that lists every broken rule; return the measurements otherwise.

    The rules: it pickles (a worker must receive it), gives the same values twice, leaves the
    samples unchanged, returns finite numbers under exactly `components` (one number when empty) or
    None where it does not apply, and stays under `seconds_per_sample` on average. reward: a
    function, an async function, a batch function, or an object with `score(batch)`.
    """
    if not samples:
        raise ValueError("check_reward: samples is empty: give it at least one")
    problems = _picklability(reward)
    before = pickle.dumps(list(samples))
    first, times = _run(reward, samples, dict(options or {}))
    second, _ = _run(reward, samples, dict(options or {}))
    if pickle.dumps(list(samples)) != before:
        problems.append("it changes the samples it is given")
    values: list[Mapping[str, float]] = []
    for index, raw in enumerate(first):
        found, complaint = _named_values(raw, tuple(components))
        values.append(found)
        if complaint:
            problems.append(f"sample {index}: {complaint}")
    again = [_named_values(raw, tuple(components))[0] for raw in second]
    if repr(again) != repr(values):
        problems.append("it is not deterministic: a second call gave other values")
    mean = sum(times) / len(samples)
    if mean > seconds_per_sample:
        problems.append(f"it takes {mean:.3g} s per sample, allowed {seconds_per_sample:g}")
    if problems:
        raise AssertionError("check_reward:\n" + "\n".join(f"- {p}" for p in problems))
    return RewardReport((), mean, max(times), tuple(values))


def _picklability(reward: Any) -> list[str]:
    name = getattr(reward, "__qualname__", type(reward).__qualname__)
    try:
        pickle.loads(pickled(reward, name))
    except Exception as error:  # pickling runs the object's own code
        return [str(error)]
    return []


def _call_one(function: Callable[..., Any], sample: Any, options: Mapping[str, Any]) -> Any:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
    for name in names:
        if name != "sample" and not hasattr(sample, name):
            raise AssertionError(
                f"check_reward: the samples have no {name!r}: take `sample` itself"
            )
    data = [sample if n == "sample" else getattr(sample, n) for n in names]
    return function(*data, **options)


def _takes_batch(function: Callable[..., Any]) -> bool:
    names = list(inspect.signature(function).parameters)
    return bool(names) and names[0] in _BATCH_NAMES


def _finish(value: Any) -> Any:
    async def wait() -> Any:
        return await value

    return asyncio.run(wait()) if inspect.isawaitable(value) else value


def _run(
    reward: Any, samples: Sequence[Any], options: Mapping[str, Any]
) -> tuple[list[Any], list[float]]:
    function = getattr(reward, "score", reward)
    start = time.perf_counter()
    if _takes_batch(function):
        results = list(_finish(function(list(samples), **options)))
        if len(results) != len(samples):
            raise AssertionError(f"check_reward: {len(results)} scores for {len(samples)} samples")
        return results, [time.perf_counter() - start]
    results, times = [], []
    for sample in samples:
        start = time.perf_counter()
        results.append(_finish(_call_one(function, sample, options)))
        times.append(time.perf_counter() - start)
    return results, times


def _named_values(raw: Any, components: tuple[str, ...]) -> tuple[Mapping[str, float], str]:
    """Values by component, and what is wrong with them."""
    status = str(getattr(raw, "status", ""))
    found = getattr(raw, "components", raw)
    if found is None:  # it does not apply to this sample
        return {}, ""
    named = dict(found) if isinstance(found, Mapping) else {"score": found}
    wanted = set(components) if components else set(named if len(named) == 1 else ("one number",))
    if set(named) != wanted:
        return {}, f"returned the names {sorted(named)}: needs {sorted(wanted)}"
    out: dict[str, float] = {}
    for name, value in named.items():
        if value is None:  # this component does not apply
            continue
        if isinstance(value, str) or not hasattr(value, "__float__"):
            return {}, f"{name} = {value!r}: needs a number"
        out[name] = float(value)
        if status in _FAILED and not math.isnan(out[name]):
            return out, f"{name} = {value!r} with status {status}: a failure must be NaN"
        if status not in _FAILED and not math.isfinite(out[name]):
            return out, f"{name} = {value!r}: needs a finite number"
    return out, ""
