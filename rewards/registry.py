"""Rewards by name. To add one: write the function, add a line here."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlnorm.errors import InputError
from rlnorm.from_python import pickled
from rlnorm.lookup import absolute_reference, choices, load_object
from rlnorm.rewards.alarm import Alarm, log_alarm
from rlnorm.rewards.calls import build_call, declared_components
from rlnorm.rewards.pool import WorkerPool
from rlnorm.rewards.running import BoundReward
from rlnorm.rewards.scorer import Scorer
from rlnorm.rewards.spec import DEFAULT_MEMORY_MB, RewardSpec, component_weights, parse_spec

BUILTINS: dict[str, str] = {
    "boxed_exact": "rlnorm.rewards.match:boxed_exact",
    "boxed_format": "rlnorm.rewards.format:boxed_format",
    "code": "rlnorm.rewards.code:CodeReward",
    "exact": "rlnorm.rewards.match:exact",
    "given": "rlnorm.rewards.given:given",
    "judge": "rlnorm.rewards.judges.judge:JudgeReward",
    "json_schema": "rlnorm.rewards.schema:JsonSchema",
    "math": "rlnorm.rewards.math.reward:MathReward",
    "choice": "rlnorm.rewards.math.reward:choice",
    "countdown": "rlnorm.rewards.math.reward:countdown",
    "cosine_length": "rlnorm.rewards.length:cosine_length",
    "overlong": "rlnorm.rewards.length:overlong",
    "polar": "rlnorm.rewards.judges.polar:PolarReward",
    "regex": "rlnorm.rewards.match:Regex",
    "repetition": "rlnorm.rewards.length:repetition",
    "think_format": "rlnorm.rewards.format:think_format",
    "tool_calls": "rlnorm.rewards.tool_calls:ToolCallReward",
}


def default_workers() -> int:
    """One worker per core that this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(8, cores or 1))


def resolve(function: str | Callable[..., Any], where: str) -> Any:
    """The function or class behind a built-in name, "module:name" or "FILE.py:NAME"."""
    if not isinstance(function, str):
        return function
    if ":" not in function:
        if function not in BUILTINS:
            raise InputError(
                f"{where} = {function!r}: {choices(function, BUILTINS)}; for one of your own write "
                "module:name or FILE.py:NAME"
            )
        function = BUILTINS[function]
    return load_object(function, where)


def _bind(spec: RewardSpec) -> BoundReward:
    where = f"rewards.{spec.name}.function"
    call = build_call(resolve(spec.function, where), spec.options, f"rewards.{spec.name}")
    if spec.memory_mb is not None and call.where != "pool" and not hasattr(call.target, "attach"):
        raise InputError(
            f"rewards.{spec.name}.memory_mb has no effect here: it needs a reward that runs in a "
            "worker, a plain def"
        )
    components = declared_components(call, spec.components, spec.name)
    shipped = _shipped(spec) if call.where == "pool" else None
    return BoundReward(spec, call, components, shipped)


def _shipped(spec: RewardSpec) -> str | bytes:
    """What a worker gets: a reference to import, or a pickled object."""
    if isinstance(spec.function, str):
        return absolute_reference(BUILTINS.get(spec.function, spec.function))
    return pickled(spec.function, f"reward {spec.name!r}")


def _check_names(bound: Sequence[BoundReward]) -> None:
    names = [c for reward in bound for c in reward.components]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"rewards: component {name!r} appears {names.count(name)} times")
    for reward in bound:
        others = [n for n in names if n not in reward.components]
        for key, other in (("gate", reward.spec.gate), ("compare_with", reward.compare_with)):
            if other is not None and other not in others:
                where = f"rewards.{reward.spec.name}.{key}"
                raise InputError(f"{where} = {other!r}: {choices(other, others)}")


def load_rewards(
    specs: Sequence[Mapping[str, Any] | RewardSpec],
    *,
    workers: int | None = None,
    deadline_s: float = 2.0,
    error_cap: float = 0.1,
    on_alarm: Callable[[Alarm], None] = log_alarm,
) -> Scorer:
    """Resolve every name and option now; workers start only when a score needs them.

    Example: load_rewards([{"name": "correct", "function": "math"},
    {"name": "short", "function": "my_pkg.rewards:short", "weight": 0.1, "gate": "correct"}]).
    """
    if isinstance(specs, str | Mapping) or not specs:
        raise InputError(f"rewards = {specs!r}: needs a list with at least one reward")
    bound = [_bind(parse_spec(raw, f"rewards[{i}]")) for i, raw in enumerate(specs)]
    _check_names(bound)
    weights: dict[str, float] = {}
    for reward in bound:
        weights |= component_weights(reward.spec, reward.components)
    pool = WorkerPool(
        default_workers() if workers is None else workers,
        deadline_s=deadline_s,
        memory_mb=max(r.spec.memory_mb or DEFAULT_MEMORY_MB for r in bound),
    )
    return Scorer(
        bound, weights, pool, deadline_s=deadline_s, error_cap=error_cap, on_alarm=on_alarm
    )
