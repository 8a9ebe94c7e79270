"""Rewards that an environment computed during the rollout; scoring only passes them on."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlnorm.rewards.calls import inline
from rlnorm.rewards.types import Score, Status


@inline
def given(meta: Mapping[str, Any], turns: Sequence[Mapping[str, Any]], *, key: str) -> Score:
    """The number under `meta[key]`; per turn, `turns[i][key]` where present, else NaN."""
    if key not in meta:
        raise KeyError(f"given.key = {key!r}: the sample's meta has {sorted(meta)}")
    value = float(meta[key])
    per_turn = [float(turn.get(key, "nan")) for turn in turns or ()] or None
    status = Status.CORRECT if value > 0 else Status.WRONG
    return Score(components={key: value}, status=status, per_turn=per_turn)
