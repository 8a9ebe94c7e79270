"""Environments by name. To add one: write an Env, or a class that makes them, and add a line here.

`load_environment(name, options)` returns a callable that gives a fresh Env per rollout;
`roll_out_many` runs them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rlnorm.errors import InputError, code_of_user
from rlnorm.lookup import choices, load_object
from rlnorm.options import check_options
from rlnorm.rewards.environments.runner import Job, roll_out, roll_out_many
from rlnorm.rewards.environments.types import (
    Env,
    EnvError,
    EnvRollout,
    RolloutLimits,
    RolloutStatus,
    Step,
)

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
    "find_environment",
    "load_environment",
    "roll_out",
    "roll_out_many",
]


def find_environment(name: str, where: str) -> Any:
    """The class behind a built-in name, "module:Class" or "FILE.py:Class"."""
    if ":" not in name and name not in ENVIRONMENTS:
        raise InputError(
            f"{where}.name = {name!r}: {choices(name, ENVIRONMENTS)}; for one of your own write "
            "module:Class or FILE.py:Class"
        )
    return load_object(ENVIRONMENTS.get(name, name), f"{where}.name")


def load_environment(
    name: str, options: Mapping[str, Any] | None = None, where: str = "environment"
) -> Callable[[], Env]:
    """Resolve a name and check its options now; call the result once per rollout.

    An Env class is bound to the options; any other class is built once with them and its instance
    must make Envs when called (it may own connections, and then has an async close()).
    where: the prefix of InputError messages.
    """
    target, options = find_environment(name, where), dict(options or {})
    check_options(f"{where}.", name, target, options, positional=True)
    with code_of_user(where):
        made = target(**options)
    factory: Callable[[], Env] = partial(target, **options) if hasattr(target, "step") else made
    if not callable(factory):
        raise InputError(f"{where}.name = {name!r}: neither has a `step` nor makes what has one")
    return factory
