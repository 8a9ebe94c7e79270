"""Prompts of a step to scored groups: sample, score, keep or resample."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from rlnorm.algorithms import Algorithm
from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.scorer import Scorer
from rlnorm.rewards.statistics import summarize
from rlnorm.rewards.turns import turn_rewards
from rlnorm.rewards.types import Sample, Status
from rlnorm.sampling import informative_groups
from rlnorm.trainers.config.schema import RolloutConfig
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.prompts import PromptStream
from rlnorm.trainers.rollout.sampler import Sampled, Sampler
from rlnorm.trainers.rollout.types import SamplingParams
from rlnorm.trainers.seeds import derive_seed
from rlnorm.types import Prompt, Rollout, RolloutGroup, ScoredRollouts


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
    """Seconds spent in the parts of one collection, and what its rewards were like."""

    rollout_s: float = 0.0
    reward_s: float = 0.0
    rounds: int = 0
    dropped_groups: int = 0
    reward_metrics: dict[str, float] = field(default_factory=dict)
    """Over every rollout scored in the step, groups that were dropped included."""


class RewardRounds:
    """The scores of a step's rounds of sampling, for metrics of the step as a whole."""

    def __init__(self) -> None:
        self._rows: list[Mapping[str, ComponentScore]] = []
        self._rounds: list[tuple[int, Mapping[str, float]]] = []

    def add(
        self, rows: Sequence[Mapping[str, ComponentScore]], metrics: Mapping[str, float]
    ) -> None:
        """One round: its rows, and the scorer's own account of them."""
        self._rows += rows
        self._rounds.append((len(rows), metrics))

    def metrics(self, components: Sequence[str]) -> dict[str, float]:
        """Names as in `Scorer.metrics`: statistics of components from all rows; what else a scorer
        tells is averaged, each round counting by its rows, one without a value not at all."""
        out = {
            f"reward/{name}/{key}": value
            for name in components
            for key, value in summarize([row[name] for row in self._rows]).flat().items()
        }
        for key in {key: None for _, told in self._rounds for key in told if key not in out}:
            known = [(n, told[key]) for n, told in self._rounds if not math.isnan(told[key])]
            rows = sum(n for n, _ in known)
            out[key] = sum(n * value for n, value in known) / rows if rows else math.nan
        return out


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

    async def collect(self, step: int) -> tuple[list[ScoredGroup], Timings]:
        """The groups of one step; with a resampling plan, only informative ones."""
        timings, kept = Timings(), []
        draws: Counter[str] = Counter()
        rounds = RewardRounds()
        wanted = self._config.prompts_per_step
        while len(kept) < wanted and timings.rounds < self._plan.max_rounds:
            timings.rounds += 1
            drawn = self.prompts.draw(wanted - len(kept))
            groups = await self._sample(drawn, draw_labels(drawn, step, draws), timings)
            scored = await self._score(groups, timings, rounds)
            informative = self._informative(scored) if self._plan.resample else scored
            timings.dropped_groups += len(scored) - len(informative)
            kept += informative
        timings.reward_metrics = rounds.metrics(self._scorer.components)
        if not kept:
            raise RunError(
                f"step {step}: no group's rewards differed in {timings.rounds} rounds of sampling; "
                "raise algorithm.sample_plan.max_rounds, or give prompts that are neither always "
                "nor never solved"
            )
        return kept, timings

    async def _sample(
        self, prompts: Sequence[Prompt], labels: Sequence[str], timings: Timings
    ) -> list[RolloutGroup]:
        """labels: of each draw, unique in the run together with the prompt's id."""
        start = time.perf_counter()
        count = self._config.group_size + (self._plan.extra_kind == "pivot")
        seeds = [
            [derive_seed(self._seed, label, p.prompt_id, i) for i in range(count)]
            for p, label in zip(prompts, labels, strict=True)
        ]
        samples = await self._sampler.sample(prompts, seeds, sampling_params(self._config))
        if self._plan.extra_kind == "greedy":
            greedy = sampling_params(self._config, temperature=0.0)
            extras = await self._sampler.sample(prompts, [[0]] * len(prompts), greedy)
        else:
            extras = [[] for _ in prompts]
        groups = []
        for prompt, label, own, extra in zip(prompts, labels, samples, extras, strict=True):
            group_id = f"{label}/{prompt.prompt_id}"
            names = [*(str(i) for i in range(len(own))), *("greedy" for _ in extra)]
            rollouts = tuple(
                self._rollout(prompt, sampled, f"{group_id}/{name}")
                for name, sampled in zip(names, [*own, *extra], strict=True)
            )
            groups.append(RolloutGroup(group_id=group_id, rollouts=rollouts))
        timings.rollout_s += time.perf_counter() - start
        return groups

    def _rollout(self, prompt: Prompt, sampled: Sampled, rollout_id: str) -> Rollout:
        return make_rollout(
            prompt,
            sampled,
            rollout_id,
            self._tokenizer,
            extra="greedy" if rollout_id.endswith("/greedy") else "",
        )

    async def _score(
        self, groups: Sequence[RolloutGroup], timings: Timings, rounds: RewardRounds
    ) -> list[ScoredGroup]:
        start = time.perf_counter()
        flat = [(r, g.group_id) for g in groups for r in g.rollouts]
        rows = await score_rollouts(self._scorer, flat)
        # what failed in its environment was never given to the rewards
        asked = [row for (r, _), row in zip(flat, rows, strict=True) if not r.failure]
        rounds.add(asked, self._scorer.metrics())
        groups = add_turn_rewards(groups, rows, self._scorer.weights)
        scores = iter(rows)
        out = [
            ScoredGroup(
                group=group,
                scores=tuple(next(scores) for _ in group.rollouts),
                policy_version=group.rollouts[0].completion.policy_versions[0][1],
            )
            for group in groups
        ]
        timings.reward_s += time.perf_counter() - start
        return out

    def _informative(self, groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
        table = score_table(groups, self._scorer.components)
        weights = [self._scorer.weights[name] for name in table.reward_names]
        keep = informative_groups(table.rewards, table.group_index, weights=weights)
        return [group for group, good in zip(groups, keep.tolist(), strict=True) if good]


def draw_labels(prompts: Sequence[Prompt], step: int, draws: Counter[str]) -> list[str]:
    """What seeds and ids of each draw begin with: "12" for the first draw of a prompt in step 12,
    "12.1" for the second, as where an epoch ends within the step or prompts are resampled.

    draws: how often each prompt was drawn in the step so far; counted on here.
    """
    labels = []
    for prompt in prompts:
        again = draws[prompt.prompt_id]
        labels.append(f"{step}.{again}" if again else str(step))
        draws[prompt.prompt_id] += 1
    return labels


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


def make_rollout(
    prompt: Prompt, sampled: Sampled, rollout_id: str, tokenizer: Any, *, extra: str = ""
) -> Rollout:
    """A completion with its identity and its text: what the policy wrote, special tokens out."""
    completion = sampled.completion
    written = completion.token_ids[completion.policy_mask]
    return Rollout(
        rollout_id=rollout_id,
        prompt=prompt,
        completion=completion,
        text=str(tokenizer.decode(written.tolist(), skip_special_tokens=True)),
        extra=extra,
        turn_rewards=sampled.turn_rewards,
        turns=sampled.turns or (),
        final=sampled.final,
        failure=str(sampled.failure or ""),
    )


async def score_rollouts(
    scorer: Scorer, rollouts: Sequence[tuple[Rollout, str]]
) -> list[dict[str, ComponentScore]]:
    """Scores of each (rollout, group id); one that failed in its environment is masked."""
    good = [(r, group) for r, group in rollouts if not r.failure]
    scores = iter(await scorer.score([as_sample(r, group) for r, group in good]))
    return [
        next(scores)
        if not r.failure
        else {c: ComponentScore(math.nan, Status(r.failure)) for c in scorer.components}
        for r, _ in rollouts
    ]


def as_sample(rollout: Rollout, group_id: str) -> Sample:
    """What a reward sees of a rollout."""
    prompt = rollout.prompt
    meta = {"source": prompt.source, "level": prompt.level, **prompt.extras}
    if rollout.final is not None:
        meta["final"] = rollout.final
    return Sample(
        id=rollout.rollout_id,
        group=group_id,
        completion=rollout.text,
        gold=prompt.answer,
        token_ids=rollout.completion.token_ids.tolist(),
        finish=rollout.completion.finish_reason.value,
        messages=prompt.messages,
        meta=meta,
        turns=rollout.turns or None,
    )


def add_turn_rewards(
    groups: Sequence[RolloutGroup],
    rows: Sequence[Mapping[str, ComponentScore]],
    weights: Mapping[str, float],
) -> Sequence[RolloutGroup]:
    """The same groups; where the environment rewards no turn, the rewards' per-turn scores do."""
    rollouts = [r for g in groups for r in g.rollouts]
    if any(not math.isnan(reward) for r in rollouts for reward in r.turn_rewards):
        return groups
    turns = iter(turn_rewards(rows, [len(r.turns) or 1 for r in rollouts], weights))
    return [
        replace(
            g,
            rollouts=tuple(
                replace(r, turn_rewards=next(turns) or r.turn_rewards) for r in g.rollouts
            ),
        )
        for g in groups
    ]


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
