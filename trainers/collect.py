"""Prompts of a step to scored groups: sample, score, keep or resample."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from rewards.scorer import Scorer
from rewards.types import Sample
from rlnorm.algorithms import Algorithm
from rlnorm.sampling import informative_groups
from rlnorm.types import Completion, Prompt, Rollout, RolloutGroup, ScoredRollouts
from trainers.config import RolloutConfig
from trainers.errors import RunError
from trainers.prompts import PromptStream
from trainers.rollout.types import GenerateRequest, RolloutPool, SamplingParams
from trainers.seeds import derive_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredGroup:
    """One finished group: what the buffer between sampling and learning holds."""

    group: RolloutGroup
    scores: tuple[dict[str, Any], ...]
    """Per rollout: component name -> ComponentScore."""
    policy_version: int
    """Version of the weights that sampled its first token."""


@dataclass(kw_only=True, slots=True)
class Timings:
    """Seconds spent in the parts of one collection."""

    rollout_s: float = 0.0
    reward_s: float = 0.0
    rounds: int = 0
    dropped_groups: int = 0
    reward_metrics: dict[str, float] = field(default_factory=dict)


class Collector:
    """Draws prompts, samples them from the pool and scores the completions."""

    def __init__(
        self,
        *,
        prompts: PromptStream,
        pool: RolloutPool,
        scorer: Scorer,
        algorithm: Algorithm,
        config: RolloutConfig,
        tokenizer: Any,
        seed: int,
    ) -> None:
        self.prompts, self._pool, self._scorer = prompts, pool, scorer
        self._plan = algorithm.sample_plan
        self._config, self._tokenizer, self._seed = config, tokenizer, seed

    async def collect(self, step: int) -> tuple[list[ScoredGroup], Timings]:
        """The groups of one step; with a resampling plan, only informative ones."""
        timings, kept = Timings(), []
        wanted = self._config.prompts_per_step
        while len(kept) < wanted and timings.rounds < self._plan.max_rounds:
            timings.rounds += 1
            drawn = self.prompts.draw(wanted - len(kept))
            groups = await self._sample(drawn, step, timings)
            scored = await self._score(groups, timings)
            informative = self._informative(scored) if self._plan.resample else scored
            timings.dropped_groups += len(scored) - len(informative)
            kept += informative
        if not kept:
            raise RunError(
                f"step {step}: no group's rewards differed in {timings.rounds} rounds of sampling; "
                "raise algorithm.sample_plan.max_rounds, or give prompts that are neither always "
                "nor never solved"
            )
        return kept, timings

    async def _sample(
        self, prompts: Sequence[Prompt], step: int, timings: Timings
    ) -> list[RolloutGroup]:
        start = time.perf_counter()
        count = self._config.group_size + (self._plan.extra_kind == "pivot")
        sampling = sampling_params(self._config)
        requests = [
            GenerateRequest(
                prompt_ids=p.token_ids,
                seeds=tuple(derive_seed(self._seed, step, p.prompt_id, i) for i in range(count)),
                sampling=sampling,
            )
            for p in prompts
        ]
        if self._plan.extra_kind == "greedy":
            greedy = sampling_params(self._config, temperature=0.0)
            requests += [
                GenerateRequest(prompt_ids=p.token_ids, seeds=(0,), sampling=greedy)
                for p in prompts
            ]
        completions = await self._pool.generate(requests)
        groups = []
        for index, prompt in enumerate(prompts):
            rollouts = self._rollouts(prompt, completions[index], step)
            if self._plan.extra_kind == "greedy":
                [baseline] = completions[len(prompts) + index]
                rollouts += self._rollouts(prompt, [baseline], step, extra="greedy")
            groups.append(
                RolloutGroup(group_id=f"{step}/{prompt.prompt_id}", rollouts=tuple(rollouts))
            )
        timings.rollout_s += time.perf_counter() - start
        return groups

    def _rollouts(
        self, prompt: Prompt, completions: Sequence[Completion], step: int, extra: str = ""
    ) -> list[Rollout]:
        return [
            Rollout(
                rollout_id=f"{step}/{prompt.prompt_id}/{extra or index}",
                prompt=prompt,
                completion=completion,
                text=decode(self._tokenizer, completion),
                extra=extra,
            )
            for index, completion in enumerate(completions)
        ]

    async def _score(self, groups: Sequence[RolloutGroup], timings: Timings) -> list[ScoredGroup]:
        start = time.perf_counter()
        samples = [as_sample(r, g.group_id) for g in groups for r in g.rollouts]
        scores = iter(await self._scorer.score(samples))
        out = [
            ScoredGroup(
                group=group,
                scores=tuple(next(scores) for _ in group.rollouts),
                policy_version=group.rollouts[0].completion.policy_versions[0][1],
            )
            for group in groups
        ]
        timings.reward_metrics = self._scorer.metrics()
        timings.reward_s += time.perf_counter() - start
        return out

    def _informative(self, groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
        table = score_table(groups, self._scorer.components)
        weights = [self._scorer.weights[name] for name in table.reward_names]
        keep = informative_groups(table.rewards, table.group_index, weights=weights)
        return [group for group, good in zip(groups, keep.tolist(), strict=True) if good]


def sampling_params(config: RolloutConfig, *, temperature: float | None = None) -> SamplingParams:
    """The config's sampling; temperature 0 makes it greedy."""
    return SamplingParams(
        temperature=config.temperature if temperature is None else temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        min_p=config.min_p,
        max_tokens=config.max_tokens,
        stop=tuple(config.stop),
    )


def decode(tokenizer: Any, completion: Completion) -> str:
    """The completion as text, special tokens left out."""
    return str(tokenizer.decode(completion.token_ids.tolist(), skip_special_tokens=True))


def as_sample(rollout: Rollout, group_id: str) -> Sample:
    """What a reward sees of a rollout."""
    prompt = rollout.prompt
    return Sample(
        id=rollout.rollout_id,
        group=group_id,
        completion=rollout.text,
        gold=prompt.answer,
        token_ids=rollout.completion.token_ids.tolist(),
        finish=rollout.completion.finish_reason.value,
        messages=prompt.messages,
        meta={"source": prompt.source, "level": prompt.level, **prompt.extras},
    )


def score_table(groups: Sequence[ScoredGroup], names: Sequence[str]) -> ScoredRollouts:
    """The flat [n, r] table of a step; a failed reward is NaN with its status, never 0."""
    flat = [
        (index, rollout, scores)
        for index, g in enumerate(groups)
        for rollout, scores in zip(g.group.rollouts, g.scores, strict=True)
    ]
    values = [[scores[name].value for name in names] for _, _, scores in flat]
    turns = [rollout.turn_rewards for _, rollout, _ in flat]
    return ScoredRollouts(
        rollouts=tuple(rollout for _, rollout, _ in flat),
        rewards=torch.tensor(values, dtype=torch.float64).reshape(len(flat), len(names)),
        status=tuple(tuple(str(scores[name].status) for name in names) for _, _, scores in flat),
        reward_names=tuple(names),
        group_index=torch.tensor([index for index, _, _ in flat]),
        truncated=torch.tensor([r.completion.finish_reason.is_truncated for _, r, _ in flat]),
        turn_rewards=_turn_table(turns) if any(turns) else None,
    )


def split_greedy(
    scored: ScoredRollouts, weights: Mapping[str, float]
) -> tuple[ScoredRollouts, torch.Tensor | None]:
    """The sampled rollouts, and for each the weighted reward of its prompt's greedy one (ReMax)."""
    greedy = torch.tensor([r.extra == "greedy" for r in scored.rollouts])
    if not greedy.any():
        return scored, None
    total = scored.rewards @ scored.rewards.new_tensor([weights[n] for n in scored.reward_names])
    baseline = total.new_full((int(scored.group_index.max()) + 1,), torch.nan)
    baseline[scored.group_index[greedy]] = total[greedy]
    rows = (~greedy).nonzero()[:, 0]
    kept = replace(
        scored,
        rollouts=tuple(scored.rollouts[i] for i in rows.tolist()),
        rewards=scored.rewards[rows],
        status=tuple(scored.status[i] for i in rows.tolist()),
        group_index=scored.group_index[rows],
        truncated=scored.truncated[rows],
        turn_rewards=None if scored.turn_rewards is None else scored.turn_rewards[rows],
    )
    return kept, baseline[kept.group_index]


def _turn_table(turns: Sequence[Sequence[float]]) -> torch.Tensor:
    width = max(len(row) for row in turns)
    padded = [[*row, *[float("nan")] * (width - len(row))] for row in turns]
    return torch.tensor(padded, dtype=torch.float64)
