"""Collects the scored groups of a step.

draw (prompts) -> label and seed (seeds) -> sample (rollout) -> score (scoring) -> keep or resample.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rlnorm.algorithms import Algorithm
from rlnorm.rewards.scorer import Scorer
from rlnorm.sampling import informative_groups
from rlnorm.trainers.config.schema import RolloutConfig
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.prompt_stream import PromptStream
from rlnorm.trainers.rollout.sampler import Sampler, make_rollout
from rlnorm.trainers.rollout.types import sampling_params
from rlnorm.trainers.scoring import (
    RewardRounds,
    ScoredGroup,
    add_turn_rewards,
    as_dropped,
    filled,
    score_rollouts,
    score_table,
)
from rlnorm.trainers.seeds import derive_seed, draw_labels
from rlnorm.types import Prompt, Role, RolloutGroup


@dataclass(kw_only=True, slots=True)
class Collection:
    """The groups that one step sampled, and how long that took."""

    groups: list[ScoredGroup] = field(default_factory=list)
    dropped: list[ScoredGroup] = field(default_factory=list)
    """Groups that were replaced because their rewards did not differ."""
    rollout_s: float = 0.0
    reward_s: float = 0.0
    rounds: int = 0
    reward_metrics: dict[str, float] = field(default_factory=dict)
    """Over all rollouts scored in the step, including dropped groups."""


class Collector:
    """Draws prompts, samples completions and scores them."""

    def __init__(
        self,
        *,
        prompts: PromptStream,
        sampler: Sampler,
        scorer: Scorer,
        algorithm: Algorithm,
        config: RolloutConfig,
        tokenizer: Any,
        seed: int,
    ) -> None:
        self.prompts, self._sampler, self._scorer = prompts, sampler, scorer
        self._plan = algorithm.sample_plan
        self._config, self._tokenizer, self._seed = config, tokenizer, seed

    async def collect(self, step: int) -> Collection:
        """Sample and score the groups of one step; with resampling, keep only informative ones."""
        out, draws, rewards = Collection(), Counter[str](), RewardRounds()
        wanted = self._config.prompts_per_step
        while len(out.groups) < wanted and out.rounds < self._plan.max_rounds:
            out.rounds += 1
            prompts = self.prompts.draw(wanted - len(out.groups))
            groups = await self._sample(prompts, draw_labels(prompts, step, draws), out)
            scored = await self._score(groups, out, rewards)
            keep = self._informative(scored) if self._plan.resample else [True] * len(scored)
            for group, kept in zip(scored, keep, strict=True):
                if kept:
                    out.groups.append(group)
                else:
                    out.dropped.append(as_dropped(group))
        out.reward_metrics = rewards.metrics(self._scorer.components)
        if not out.groups:
            raise RunError(
                f"step {step}: no group's rewards differed in {out.rounds} rounds of sampling; "
                "raise algorithm.sample_plan.max_rounds, or use prompts that are solved sometimes "
                "but not always"
            )
        return out

    async def _sample(
        self, prompts: Sequence[Prompt], labels: Sequence[str], out: Collection
    ) -> list[RolloutGroup]:
        """labels: of each prompt; label and prompt id together are unique in the run."""
        start = time.perf_counter()
        count = self._plan.samples(self._config.group_size)
        seeds = [
            [derive_seed(self._seed, label, p.prompt_id, i) for i in range(count)]
            for p, label in zip(prompts, labels, strict=True)
        ]
        sampled = await self._sampler.sample(prompts, seeds, sampling_params(self._config))
        if self._plan.extra_kind == "greedy":
            greedy = sampling_params(self._config, temperature=0.0)
            baselines = await self._sampler.sample(prompts, [[0]] * len(prompts), greedy)
        else:
            baselines = [[] for _ in prompts]
        groups = []
        for prompt, label, own, extra in zip(prompts, labels, sampled, baselines, strict=True):
            group_id = f"{label}/{prompt.prompt_id}"
            named = [(str(i), Role.TRAIN, s) for i, s in enumerate(own)]
            named += [("greedy", Role.BASELINE, s) for s in extra]
            rollouts = tuple(
                make_rollout(prompt, s, f"{group_id}/{name}", self._tokenizer, role=role)
                for name, role, s in named
            )
            groups.append(RolloutGroup(group_id=group_id, rollouts=rollouts))
        out.rollout_s += time.perf_counter() - start
        return groups

    async def _score(
        self, groups: Sequence[RolloutGroup], out: Collection, rewards: RewardRounds
    ) -> list[ScoredGroup]:
        start = time.perf_counter()
        flat = [(r, g.group_id) for g in groups for r in g.rollouts]
        rows = await score_rollouts(self._scorer, flat)
        # rollouts that failed in their environment were not scored
        known = [row for (r, _), row in zip(flat, rows, strict=True) if not r.failure]
        rewards.add(known, self._scorer.metrics())
        groups = add_turn_rewards(groups, rows, self._scorer.weights)
        scores = iter(rows)
        scored = [
            ScoredGroup(
                group=group,
                scores=tuple(next(scores) for _ in group.rollouts),
                policy_version=group.rollouts[0].completion.policy_versions[0][1],
            )
            for group in groups
        ]
        out.reward_s += time.perf_counter() - start
        return scored

    def _informative(self, groups: Sequence[ScoredGroup]) -> list[bool]:
        table = score_table(groups, self._scorer.components)
        weights = [self._scorer.weights[name] for name in table.reward_names]
        return informative_groups(filled(table), table.group_index, weights=weights).tolist()
