"""Scores rollouts: samples for the rewards, their scores, and the table of a step."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlnorm.errors import InputError
from rlnorm.groups import group_mean, make_groups
from rlnorm.lookup import choices
from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.scorer import Scorer
from rlnorm.rewards.statistics import summarize
from rlnorm.rewards.turns import turn_rewards
from rlnorm.rewards.types import Sample, Status
from rlnorm.types import Prompt, Role, Rollout, RolloutGroup, ScoredRollouts

SHOWN = 5
"""Rows and values that a message names."""
_HELP = {
    "timeout": " (rewards.*.deadline_s)",
    "gold_error": " (data.fields.answer, or rewards.*.rows for the rows it can read)",
    "infra_error": "",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredGroup:
    """A group with the scores of its rollouts."""

    group: RolloutGroup
    scores: tuple[Mapping[str, ComponentScore], ...]
    """Scores by component, for each rollout."""
    policy_version: int
    """Version of the weights that sampled the first token."""


def columns(prompt: Prompt) -> dict[str, Any]:
    """Source, level and the other columns of the prompt's data row."""
    return {"source": prompt.source, "level": prompt.level, **prompt.extras}


def as_sample(rollout: Rollout, group_id: str) -> Sample:
    """The rollout as rewards receive it."""
    prompt, meta = rollout.prompt, columns(rollout.prompt)
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
        open_tag=rollout.open_tag,
        open_at=rollout.open_at,
    )


async def score_rollouts(
    scorer: Scorer, rollouts: Sequence[tuple[Rollout, str]]
) -> list[dict[str, ComponentScore]]:
    """Scores of each (rollout, group id); NaN for a rollout that failed in its environment."""
    good = [(r, group) for r, group in rollouts if not r.failure]
    scores = iter(await scorer.score([as_sample(r, group) for r, group in good]))
    return [
        next(scores)
        if not r.failure
        else {c: ComponentScore(math.nan, Status(r.failure)) for c in scorer.components}
        for r, _ in rollouts
    ]


def add_turn_rewards(
    groups: Sequence[RolloutGroup],
    rows: Sequence[Mapping[str, ComponentScore]],
    weights: Mapping[str, float],
) -> Sequence[RolloutGroup]:
    """The groups with per-turn scores of the rewards, unless the environment rewards turns."""
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
    """The flat [n, r] table of a step; a failed reward is NaN with its status."""
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


def filled(scored: ScoredRollouts, *, elsewhere: float = 0.0) -> Float[Tensor, "n r"]:
    """The rewards as estimators get them. A score that does not apply becomes the mean of its
    component over the group's rollouts to which it applies, baselines left out, so that it neither
    favours nor punishes; `elsewhere` where there are none. NaN for a rollout that no reward is for.
    """
    absent = _absent(scored)
    baseline = torch.tensor([r.role is Role.BASELINE for r in scored.rollouts])
    groups = make_groups(scored.group_index)
    known = scored.rewards.where(~baseline[:, None], torch.nan)
    means = group_mean(known, groups).nan_to_num(elsewhere)[groups.index]
    return scored.rewards.where(~absent, means).where(~absent.all(1)[:, None], torch.nan)


def weighted_sums(scored: ScoredRollouts, weights: Mapping[str, float]) -> Float[Tensor, " n"]:
    """The weighted sum of each rollout over the rewards that apply to it; NaN if one of them failed
    or none applies."""
    absent = _absent(scored)
    given = scored.rewards.where(~absent, 0.0)
    total = given @ given.new_tensor([weights[name] for name in scored.reward_names])
    return total.where(~absent.all(1), torch.nan)


def why_no_reward(scored: ScoredRollouts) -> str:
    """Which rewards failed and what helps, in one line, if no rollout has all of its rewards."""
    absent, count = _absent(scored), len(scored.rollouts)
    complete = (absent | ~scored.rewards.isnan()).all(1) & ~absent.all(1)
    if complete.any():
        return ""
    failures = Counter(r.failure for r in scored.rollouts if r.failure)
    said = [f"environment: {n} of {count} rollouts are {kind}" for kind, n in failures.items()]
    scored_rows = [s for s, r in zip(scored.status, scored.rollouts, strict=True) if not r.failure]
    for index, name in enumerate(scored.reward_names):
        for status, n in Counter(row[index] for row in scored_rows).items():
            if status in _HELP:
                said.append(f"reward {name!r}: {n} of {count} samples are {status}{_HELP[status]}")
    return (
        f"no rollout has a reward to train on: {'; '.join(said) or 'none applies to any of them'}"
    )


def _absent(scored: ScoredRollouts) -> Bool[Tensor, "n r"]:
    """True where a reward does not apply to a rollout."""
    found = [[s == Status.NOT_APPLICABLE for s in row] for row in scored.status]
    return torch.tensor(found, dtype=torch.bool).reshape(scored.rewards.shape)


def check_reward_rows(scorer: Scorer, prompts: Mapping[str, Sequence[Prompt]]) -> None:
    """Refuse, by name, a reward's `rows` with an unknown column or value, and a row without reward.

    prompts: by the config key they come from.
    """
    rows = {key: [columns(prompt) for prompt in own] for key, own in prompts.items()}
    every = [row for own in rows.values() for row in own]
    for name, chosen in scorer.row_filters.items():
        where = f"rewards.{name}.rows"
        for column, values in chosen.items():
            held = {row[column]: None for row in every if _is_value(row.get(column))}
            if not held:
                known = {c for row in every for c, value in row.items() if _is_value(value)}
                raise InputError(f"{where}.{column}: no row has it, {choices(column, known)}")
            for value in values:
                if value not in held:
                    few = ", ".join(map(repr, [*held][:SHOWN])) + (", ..." * (len(held) > SHOWN))
                    raise InputError(f"{where}.{column} = {value!r}: the rows hold {few}")
        if not any(all(row.get(c) in v for c, v in chosen.items()) for row in every):
            raise InputError(f"{where}: no row has all of {dict(chosen)}")
    for key, own in rows.items():
        has_reward = scorer.applies if key == "data.train" else scorer.grades
        pairs = zip(prompts[key], own, strict=True)
        bare = [prompt.prompt_id for prompt, row in pairs if not has_reward(row)]
        if bare:
            raise InputError(
                f"{key}: no reward applies to {len(bare)} of {len(own)} rows, for example "
                f"{', '.join(bare[:SHOWN])}; extend rows of a reward, or leave these rows out"
            )


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float)


def split_baseline(
    scored: ScoredRollouts, weights: Mapping[str, float]
) -> tuple[ScoredRollouts, Float[Tensor, " n"] | None]:
    """The rollouts that train, and for each the weighted reward of its prompt's baseline (ReMax),
    or None if there are no baselines."""
    is_baseline = torch.tensor([r.role is Role.BASELINE for r in scored.rollouts])
    if not is_baseline.any():
        return scored, None
    total = filled(scored) @ scored.rewards.new_tensor([weights[n] for n in scored.reward_names])
    baseline = total.new_full((int(scored.group_index.max()) + 1,), torch.nan)
    baseline[scored.group_index[is_baseline]] = total[is_baseline]
    rows = (~is_baseline).nonzero()[:, 0]
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


def as_dropped(group: ScoredGroup) -> ScoredGroup:
    """The same group with its rollouts marked as dropped."""
    rollouts = tuple(replace(r, role=Role.DROPPED) for r in group.group.rollouts)
    return replace(group, group=replace(group.group, rollouts=rollouts))


class RewardRounds:
    """Combines the scores of a step's rounds of sampling into metrics of the step."""

    def __init__(self) -> None:
        self._rows: list[Mapping[str, ComponentScore]] = []
        self._rounds: list[tuple[int, Mapping[str, float]]] = []

    def add(
        self, rows: Sequence[Mapping[str, ComponentScore]], metrics: Mapping[str, float]
    ) -> None:
        """Add one round: its scores, and the scorer's metrics of them."""
        self._rows += rows
        self._rounds.append((len(rows), metrics))

    def metrics(self, components: Sequence[str]) -> dict[str, float]:
        """Metrics by the names of `Scorer.metrics`. Statistics of components are computed from all
        scores; others are averaged over the rounds that have them, weighted by number of scores."""
        out = {
            f"reward/{name}/{key}": value
            for name in components
            for key, value in summarize([row[name] for row in self._rows]).flat().items()
        }
        absent = [all(not s.status.applies for s in row.values()) for row in self._rows]
        out["group/not_applicable"] = float(sum(absent))
        for key in {key: None for _, found in self._rounds for key in found if key not in out}:
            known = [(n, found[key]) for n, found in self._rounds if not math.isnan(found[key])]
            rows = sum(n for n, _ in known)
            out[key] = sum(n * value for n, value in known) / rows if rows else math.nan
        return out


def _turn_table(turns: Sequence[Sequence[float]]) -> Float[Tensor, "n u"]:
    width = max(len(row) for row in turns)
    padded = [[*row, *[float("nan")] * (width - len(row))] for row in turns]
    return torch.tensor(padded, dtype=torch.float64)
