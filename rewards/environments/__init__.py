"""Environments by name. To add one: write an Env, or a class whose instances make them, and a line.

`load_environment(name, options)` returns a callable that gives a fresh Env for each rollout;
`roll_out_many` runs them.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rlnorm.errors import InputError
from rlnorm.rewards.calls import load_object
from rlnorm.rewards.environments.runner import Job, roll_out, roll_out_many
from rlnorm.rewards.environments.types import (
    Env,
    EnvError,
    EnvRollout,
    RolloutLimits,
    RolloutStatus,
    Step,
)
from rlnorm.rewards.spec import suggest

ENVIRONMENTS: dict[str, str] = {
    "calculator": "rlnorm.rewards.environments.tools:CalculatorTask",
    "chain": "rlnorm.rewards.environments.chain:ChainEnv",
    "dialogue": "rlnorm.rewards.environments.dialogue:DialogueTask",
}

__all__ = [
    "ENVIRONMENTS",
    "Env",
    "EnvError",
    "EnvRollout",
    "Job",
    "RolloutLimits",
    "RolloutStatus",
    "Step",
    "load_environment",
    "roll_out",
    "roll_out_many",
]


def load_environment(name: str, options: Mapping[str, Any] | None = None) -> Callable[[], Env]:
    """Name or "module:Class" and its keyword options, checked now; call the result once a rollout.

    An Env class is bound to the options; any other class is built once with them and its instance
    must make Envs when called (it may own connections, and then has an async close()).
    """
    where, options = f"environment = {name!r}", dict(options or {})
    if ":" not in name and name not in ENVIRONMENTS:
        raise InputError(f"{where}: {suggest(name, list(ENVIRONMENTS))} or module:Class")
    target = load_object(ENVIRONMENTS.get(name, name), where)
    parameters = inspect.signature(target).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in allowed:
            raise InputError(f"{where}: option {option!r}: {suggest(option, allowed)}")
    for p in parameters:
        if p.name in allowed and p.default is p.empty and p.name not in options:
            raise InputError(f"{where}: option {p.name!r} is needed")
    made = target(**options)
    factory: Callable[[], Env] = partial(target, **options) if hasattr(target, "step") else made
    return factory
