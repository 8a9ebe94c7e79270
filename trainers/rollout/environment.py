"""Resolves the multi-turn environment of a config: its class, options and limits."""

import inspect
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from rlnorm.errors import InputError
from rlnorm.options import check_options
from rlnorm.rewards.environments import find_environment, load_environment
from rlnorm.rewards.environments.types import RolloutLimits
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.models import context_length, load_model_config


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """`rollout.environment`, checked: {name: chain, max_turns: 4, turns: [2, 3]}."""

    factories: Mapping[str, Any]
    """What creates an environment, by split."""
    limits: RolloutLimits

    def make(self, split: str) -> Any:
        """A new environment for one rollout."""
        return self.factories[split]()

    async def aclose(self) -> None:
        """Close the factories that have a close(); all are closed even if one raises."""
        async with AsyncExitStack() as stack:
            for factory in self.factories.values():
                if (close := getattr(factory, "close", None)) is not None:
                    stack.push_async_callback(close)


def resolve_environment(config: Config) -> Environment:
    """The environment of the config; InputError for a wrong name, option or limit."""
    table = dict(config.rollout.environment or {})
    where, name = "rollout.environment", str(table.pop("name", ""))
    limits = {key: table.pop(key) for key in RolloutLimits.__slots__ if key in table}
    check_options(f"{where}.", "a rollout", RolloutLimits, limits)
    limits.setdefault("tokens_per_turn", config.rollout.max_tokens)
    contexts = [*_contexts(config), *filter(None, [limits.pop("context_tokens", None)])]
    parameters = inspect.signature(find_environment(name, where)).parameters
    # an environment that distinguishes splits has a parameter `split`
    own = {s: {"split": s} if "split" in parameters else {} for s in ("train", "test")}
    factories = {s: load_environment(name, {**own[s], **table}, where) for s in own}
    try:
        limits["context_tokens"] = min(contexts, default=None)
        return Environment(factories=factories, limits=RolloutLimits(**limits))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def _contexts(config: Config) -> list[int]:
    """The context lengths that the model and the engines state."""
    own = config.rollout.engine_options.get("max_model_len")
    engines = own if config.rollout.backend == "vllm" and isinstance(own, int) else None
    model = context_length(load_model_config(config.model.path))
    return [n for n in (model, engines) if n is not None and n > 0]
