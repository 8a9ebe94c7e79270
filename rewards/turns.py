"""Rewards per turn, from the per-turn scores of components."""

import math
from collections.abc import Mapping, Sequence

from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.results import ComponentScore


def turn_rewards(
    rows: Sequence[Mapping[str, ComponentScore]], turns: Sequence[int], weights: Mapping[str, float]
) -> list[tuple[float, ...]]:
    """One reward per turn for each row: the weighted sum over components; () if none has any.

    A component with a single number counts at the last turn. NaN for a turn that no component
    scored, and for every turn of a row with a failed score. A component that does not apply counts
    nowhere. Raises RewardError if a component's number of scores differs from the row's number of
    turns.
    """
    if not any(_has_turns(score) for row in rows for score in row.values()):
        return [()] * len(rows)
    out = []
    for row, count in zip(rows, turns, strict=True):
        totals = [math.nan] * count
        applied = {name: score for name, score in row.items() if score.status.applies}
        if all(score.status.is_verdict for score in applied.values()):
            for name, score in applied.items():
                for turn, value in enumerate(_by_turn(name, score, count)):
                    if not math.isnan(value):
                        before = 0.0 if math.isnan(totals[turn]) else totals[turn]
                        totals[turn] = before + weights[name] * value
        out.append(tuple(totals))
    return out


def _has_turns(score: ComponentScore) -> bool:
    return any(not math.isnan(value) for value in score.per_turn or ())


def _by_turn(name: str, score: ComponentScore, count: int) -> Sequence[float]:
    if not _has_turns(score):
        return [*[math.nan] * (count - 1), score.value]
    assert score.per_turn is not None
    if len(score.per_turn) != count:
        raise RewardError(
            f"reward component {name!r}: {len(score.per_turn)} per-turn scores for a rollout of "
            f"{count} turns"
        )
    return score.per_turn
