"""Prompts to completions, one turn or many: what the collector and the evaluation sample with."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch

from rlnorm.errors import InputError
from rlnorm.rewards.calls import load_object
from rlnorm.rewards.environments import ENVIRONMENTS, load_environment
from rlnorm.rewards.environments.batching import Batched, Turn
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.rewards.environments.runner import Job, roll_out_many
from rlnorm.rewards.environments.types import EnvRollout, RolloutLimits
from rlnorm.rewards.types import Status
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.models import load_model_config
from rlnorm.trainers.rollout.types import GenerateRequest, RolloutPool, SamplingParams
from rlnorm.types import Completion, FinishReason, Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One completion and what its environment said of it."""

    completion: Completion
    turn_rewards: tuple[float, ...] = ()
    turns: tuple[Mapping[str, Any], ...] | None = None
    final: float | None = None
    """The environment's reward of the whole rollout."""
    failure: Status | None = None
    """Set when the rollout failed: every reward of it is masked."""


class Sampler(Protocol):
    """Samples len(seeds[i]) completions of prompts[i]."""

    async def sample(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: SamplingParams,
    ) -> list[list[Sampled]]:
        """One list a prompt, one completion a seed, in order."""
        ...

    async def close(self) -> None:
        """Close what sampling holds open, the pool apart."""
        ...


class SingleTurn:
    """The pool as it is."""

    def __init__(self, pool: RolloutPool) -> None:
        self._pool = pool

    async def sample(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: SamplingParams,
    ) -> list[list[Sampled]]:
        """See `Sampler.sample`."""
        requests = [
            GenerateRequest(prompt_ids=p.token_ids, seeds=tuple(s), sampling=sampling)
            for p, s in zip(prompts, seeds, strict=True)
        ]
        groups = await self._pool.generate(requests)
        return [[Sampled(completion=c) for c in group] for group in groups]

    async def close(self) -> None:
        """See `Sampler.close`: nothing but the pool is open."""


class MultiTurn:
    """Rollouts through an environment; each prompt names its problem by `problem_seed`."""

    def __init__(self, pool: RolloutPool, tokenizer: Any, environment: "Environment") -> None:
        self._pool, self._environment = pool, environment
        self._tokenizer = ChatTokenizer(tokenizer)

    async def sample(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: SamplingParams,
    ) -> list[list[Sampled]]:
        """See `Sampler.sample`; a rollout that failed comes back with its status."""
        jobs = [
            Job(
                env=self._environment.make(p.extras["split"]),
                problem_seed=p.extras["problem_seed"],
                seed=seed,
            )
            for p, own in zip(prompts, seeds, strict=True)
            for seed in own
        ]
        generate = Batched(partial(self._turns, sampling))
        done = await roll_out_many(jobs, generate, self._tokenizer, self._environment.limits)
        rollouts, version = iter(done), self._pool.policy_version
        return [[_sampled(next(rollouts), version) for _ in own] for own in seeds]

    async def _turns(self, sampling: SamplingParams, turns: Sequence[Turn]) -> list[Any]:
        """One batch of turns, each with its own token budget and stop strings."""
        requests = [
            GenerateRequest(
                prompt_ids=tuple(prompt_ids),
                seeds=(seed,),
                sampling=replace(sampling, max_tokens=tokens, stop=(*sampling.stop, *stop)),
            )
            for prompt_ids, tokens, seed, stop in turns
        ]
        return [
            (c.token_ids.tolist(), c.sampler_logprobs.tolist(), c.finish_reason.value)
            for [c] in await self._pool.generate(requests)
        ]

    async def close(self) -> None:
        """See `Sampler.close`: the environment's connections."""
        await self._environment.aclose()


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """`rollout.environment`, checked: {name: chain, max_turns: 4, turns: [2, 3]}."""

    factories: Mapping[str, Any]
    """By split."""
    limits: RolloutLimits

    def make(self, split: str) -> Any:
        """A fresh environment for one rollout."""
        return self.factories[split]()

    async def aclose(self) -> None:
        """Close what the factories hold open: those that are no plain Env class may have a close().

        A factory that raises keeps no other from being closed.
        """
        async with AsyncExitStack() as stack:
            for factory in self.factories.values():
                if (close := getattr(factory, "close", None)) is not None:
                    stack.push_async_callback(close)


def resolve_environment(config: Config) -> Environment:
    """The environment's class, options and limits, or what is wrong with them."""
    table = dict(config.rollout.environment or {})
    where, name = "rollout.environment", str(table.pop("name", ""))
    limits = {key: table.pop(key) for key in RolloutLimits.__slots__ if key in table}
    limits.setdefault("tokens_per_turn", config.rollout.max_tokens)
    contexts = [*_contexts(config), *filter(None, [limits.pop("context_tokens", None)])]
    try:
        parameters = inspect.signature(load_object(ENVIRONMENTS.get(name, name), where)).parameters
        # an environment that tells its splits apart is told which
        own = {s: {"split": s} if "split" in parameters else {} for s in ("train", "test")}
        factories = {s: load_environment(name, {**own[s], **table}) for s in own}
        context = min(contexts, default=None)
        return Environment(
            factories=factories, limits=RolloutLimits(**limits, context_tokens=context)
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None


def context_length(model_config: Any) -> int | None:
    """Most tokens a prompt and its completion may have; None for a model that states no limit."""
    text = model_config.get_text_config()
    context = getattr(text, "max_position_embeddings", None)
    return None if context is None else int(context)


def _contexts(config: Config) -> list[int]:
    """What the model and the engines state as the context's length."""
    own = config.rollout.engine_options.get("max_model_len")
    engines = own if config.rollout.backend == "vllm" and isinstance(own, int) else None
    model = context_length(load_model_config(config.model.path))
    return [n for n in (model, engines) if n is not None and n > 0]


def _sampled(rollout: EnvRollout, version: int) -> Sampled:
    finish = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
    completion = Completion(
        token_ids=torch.tensor(rollout.token_ids, dtype=torch.int64),
        sampler_logprobs=torch.tensor(rollout.logprobs, dtype=torch.float32),
        policy_mask=torch.tensor(rollout.policy_mask, dtype=torch.bool),
        turn_index=torch.tensor(rollout.turn_index, dtype=torch.int64),
        finish_reason=finish.get(rollout.finish, FinishReason.ABORT),
        policy_versions=((0, version),),
    )
    return Sampled(
        completion=completion,
        turn_rewards=rollout.turn_rewards,
        turns=rollout.turns,
        final=None if rollout.status.is_failure else rollout.final,
        failure=rollout.status.reward_status,
    )
