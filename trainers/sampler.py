"""Prompts to completions, one turn or many: what the collector and the evaluation sample with."""

import asyncio
import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch

from rewards.environments.chat import ChatTokenizer
from rewards.environments.runner import Job, roll_out_many
from rewards.environments.types import EnvRollout, RolloutLimits
from rewards.errors import InputError
from rewards.types import Status
from rlnorm.types import Completion, FinishReason, Prompt
from trainers.config import Config
from trainers.rollout.types import GenerateRequest, RolloutPool, SamplingParams

ENVIRONMENTS = {"chain": "rewards.environments.chain:ChainEnv"}
LIMITS = ("max_turns", "wall_s", "tokens_per_turn", "total_tokens")
BATCH_WINDOW_S = 0.002
"""How long a turn waits for others to be sampled with it."""


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


class MultiTurn:
    """Rollouts through an environment; each prompt names its problem by `problem_seed`."""

    def __init__(self, pool: RolloutPool, tokenizer: Any, spec: "EnvironmentSpec") -> None:
        self._pool, self._spec = pool, spec
        self._tokenizer = ChatTokenizer(tokenizer)

    async def sample(
        self,
        prompts: Sequence[Prompt],
        seeds: Sequence[Sequence[int]],
        sampling: SamplingParams,
    ) -> list[list[Sampled]]:
        """See `Sampler.sample`; a rollout that failed comes back with its status."""
        generate = TurnBatcher(self._pool, sampling)
        jobs = [
            Job(
                env=self._spec.make(p.extras["split"]),
                problem_seed=p.extras["problem_seed"],
                seed=seed,
            )
            for p, own in zip(prompts, seeds, strict=True)
            for seed in own
        ]
        done = iter(await roll_out_many(jobs, generate, self._tokenizer, self._spec.limits))
        version = self._pool.policy_version
        return [[_sampled(next(done), version) for _ in own] for own in seeds]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvironmentSpec:
    """`rollout.environment`, checked: {name: chain, max_turns: 4, turns: [2, 3]}."""

    cls: Any
    options: Mapping[str, Any]
    limits: RolloutLimits

    def make(self, split: str) -> Any:
        """A fresh environment; one that tells its splits apart is told which."""
        if "split" in inspect.signature(self.cls).parameters:
            return self.cls(**{"split": split, **self.options})
        return self.cls(**self.options)


def environment_spec(config: Config) -> EnvironmentSpec:
    """Resolve the environment's class, options and limits, or say what is wrong."""
    table = dict(config.rollout.environment or {})
    name = str(table.pop("name", ""))
    where = "rollout.environment"
    module, _, attribute = ENVIRONMENTS.get(name, name).partition(":")
    if not attribute:
        raise InputError(
            f"{where}.name = {name!r}: choose from {', '.join(ENVIRONMENTS)} or module:Class"
        )
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{where}.name = {name!r}: {error}") from None
    chosen = {key: table.pop(key) for key in LIMITS if key in table}
    chosen.setdefault("tokens_per_turn", config.rollout.max_tokens)
    known = set(inspect.signature(cls).parameters)
    if unknown := sorted(set(table) - known):
        raise InputError(
            f"{where}.{unknown[0]}: {name} takes {sorted(known)}, and the limits {list(LIMITS)}"
        )
    try:
        spec = EnvironmentSpec(cls=cls, options=table, limits=RolloutLimits(**chosen))
        spec.make("train")
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None
    return spec


@dataclass(slots=True)
class _Turn:
    request: GenerateRequest
    answer: asyncio.Future[Completion]


@dataclass(slots=True)
class TurnBatcher:
    """Turns asked for at about the same time are sampled as one batch (see `Generate`)."""

    pool: RolloutPool
    sampling: SamplingParams
    _waiting: list[_Turn] = field(default_factory=list)
    _flushes: set[asyncio.Task[None]] = field(default_factory=set)

    async def __call__(
        self, prompt_ids: list[int], max_tokens: int, seed: int, stop: tuple[str, ...]
    ) -> tuple[list[int], list[float], str]:
        """Token ids, logprobs and why the turn ended."""
        sampling = replace(self.sampling, max_tokens=max_tokens, stop=(*self.sampling.stop, *stop))
        request = GenerateRequest(prompt_ids=tuple(prompt_ids), seeds=(seed,), sampling=sampling)
        turn = _Turn(request, asyncio.get_running_loop().create_future())
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._flush())
            self._flushes.add(task)
            task.add_done_callback(self._flushes.discard)
        done = await turn.answer
        return done.token_ids.tolist(), done.sampler_logprobs.tolist(), done.finish_reason.value

    async def _flush(self) -> None:
        await asyncio.sleep(BATCH_WINDOW_S)
        turns, self._waiting = self._waiting, []
        try:
            answers = await self.pool.generate([turn.request for turn in turns])
        except Exception as error:  # handed to every rollout that waits, which raises it
            for turn in turns:
                if not turn.answer.done():
                    turn.answer.set_exception(error)
            return
        for turn, [completion] in zip(turns, answers, strict=True):
            if not turn.answer.done():  # a rollout over its wall clock no longer waits
                turn.answer.set_result(completion)


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
