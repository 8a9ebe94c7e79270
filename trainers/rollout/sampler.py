"""Samples completions of prompts, in one turn or many, for training and evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch

from rlnorm.rewards.decoding import open_tag, visible_text
from rlnorm.rewards.environments.batching import Batched, Turn
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.rewards.environments.runner import Job, roll_out_many
from rlnorm.rewards.environments.types import EnvRollout
from rlnorm.rewards.types import Status
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.rollout.environment import Environment, resolve_environment
from rlnorm.trainers.rollout.types import GenerateRequest, RolloutPool, SamplingParams
from rlnorm.types import Completion, FinishReason, Prompt, Role, Rollout


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One completion and the results of its environment."""

    completion: Completion
    turn_rewards: tuple[float, ...] = ()
    turns: tuple[Mapping[str, Any], ...] | None = None
    final: float | None = None
    """The environment's reward of the complete rollout."""
    failure: Status | None = None
    """Set if the rollout failed: all its rewards are masked."""


class Sampler(Protocol):
    """Samples len(seeds[i]) completions of prompts[i]."""

    async def sample(
        self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], sampling: SamplingParams
    ) -> list[list[Sampled]]:
        """One list per prompt with one completion per seed, in order."""
        ...

    async def close(self) -> None:
        """Close everything that sampling has opened, except the pool."""
        ...


class SingleTurn:
    """A `Sampler` without an environment: one turn per prompt."""

    def __init__(self, pool: RolloutPool) -> None:
        self._pool = pool

    async def sample(
        self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], sampling: SamplingParams
    ) -> list[list[Sampled]]:
        requests = [
            GenerateRequest(prompt_ids=p.token_ids, seeds=tuple(s), sampling=sampling)
            for p, s in zip(prompts, seeds, strict=True)
        ]
        groups = await self._pool.generate(requests)
        return [[Sampled(completion=c) for c in group] for group in groups]

    async def close(self) -> None:
        """Nothing to close."""


class MultiTurn:
    """A `Sampler` with an environment; each prompt names its problem by `problem_seed`."""

    def __init__(self, pool: RolloutPool, tokenizer: Any, environment: Environment) -> None:
        self._pool, self._environment = pool, environment
        self._tokenizer = ChatTokenizer(tokenizer)

    async def sample(
        self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], sampling: SamplingParams
    ) -> list[list[Sampled]]:
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
        await self._environment.aclose()


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


def make_rollout(
    prompt: Prompt, sampled: Sampled, rollout_id: str, tokenizer: Any, *, role: Role = Role.TRAIN
) -> Rollout:
    """A completion with its id and its text: the policy's tokens, without end and turn tokens."""
    completion = sampled.completion
    written = completion.token_ids[completion.policy_mask].tolist()
    tag, earlier = _last_opening(prompt, sampled, tokenizer)
    return Rollout(
        rollout_id=rollout_id,
        prompt=prompt,
        completion=completion,
        text=visible_text(tokenizer, written),
        open_tag=tag,
        open_at=len(visible_text(tokenizer, written[:earlier])) if tag else 0,
        role=role,
        turn_rewards=sampled.turn_rewards,
        turns=sampled.turns or (),
        final=sampled.final,
        failure=str(sampled.failure or ""),
    )


def _last_opening(prompt: Prompt, sampled: Sampled, tokenizer: Any) -> tuple[str, int]:
    """The reasoning tag that the prompt of the last turn leaves open, and the number of tokens that
    the policy wrote before that turn."""
    if sampled.turns:
        completion, last = sampled.completion, len(sampled.turns) - 1
        earlier = completion.policy_mask & (completion.turn_index < last)
        return str(sampled.turns[-1]["open_tag"]), int(earlier.sum())
    if not prompt.messages:
        return "", 0
    return open_tag(tokenizer, prompt.token_ids, str(prompt.messages[-1]["content"])), 0


def build_sampler(config: Config, pool: RolloutPool, tokenizer: Any) -> Sampler:
    """The sampler of the config, with its environment if it has one."""
    if config.rollout.environment is None:
        return SingleTurn(pool)
    return MultiTurn(pool, tokenizer, resolve_environment(config))
