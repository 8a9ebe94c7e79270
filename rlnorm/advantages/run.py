"""From the reward table to advantages: shape, estimate, modulate."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from rlnorm.stages import Stage
from rlnorm.types import Advantages


def run_stages(
    shaping: Iterable[Stage],
    estimator: Stage,
    modulators: Iterable[Stage],
    data: Mapping[str, Tensor],
) -> Advantages:
    """The advantages of all rollouts of a step, in float64.

    A user's function may return a plain tensor, which becomes Advantages here.
    Raises ValueError for a wrong shape or an advantage that is not finite.
    """
    columns: dict[str, Any] = dict(data)
    for shaper in shaping:
        columns["rewards"] = shaper(columns)
    result = as_advantages(estimator, estimator(columns), columns)
    for modulator in modulators:
        changed = modulator({**columns, "advantages": result})
        if not isinstance(changed, Advantages):
            changed = replace(result, values=_tensor("modulators", modulator, changed))
        result = replace(result, values=changed.values, keep=result.keep & changed.keep)
    if not result.values.isfinite().all():
        raise ValueError(
            f"{estimator.name}: returned {int((~result.values.isfinite()).sum())} advantages "
            "that are not finite: needs a finite one for every rollout, 0 where a reward is NaN"
        )
    return replace(result, values=result.values.where(result.aligned(result.keep), 0.0))


def as_advantages(stage: Stage, result: Any, columns: Mapping[str, Tensor]) -> Advantages:
    """An estimator's result, its shape checked; a plain tensor keeps all rollouts with a reward.

    With as many tokens as rollouts, values are per token only if the function reads token columns.
    """
    by_turn = "turn_rewards" in stage.data or "rewards" not in columns
    rewards = columns["turn_rewards" if by_turn else "rewards"]
    n, tokens = rewards.shape[0], columns.get("rollout_index")
    rewarded = ~rewards.isnan().all(dim=1)
    given = result
    if not isinstance(given, Advantages):
        given = Advantages(_tensor("estimator", stage, given), rewarded)
    shape, index = given.values.shape, given.rollout_index
    if index is None and tokens is not None and shape == tokens.shape:
        index = tokens if shape != (n,) or "rollout_index" in stage.data else None
    owners = (n,) if index is None else index.shape
    if shape[:1] != owners or len(shape) > (2 if index is None else 1) or given.keep.shape != (n,):
        raise ValueError(
            f"estimator.name = {stage.name!r}: returned shape {tuple(shape)}: needs [{n}] for the "
            f"rollouts, [{n}, turns], or one number for each trained token"
        )
    return Advantages(given.values.double(), rewarded & given.keep, index)


def _tensor(slot: str, stage: Stage, returned: object) -> Tensor:
    if not isinstance(returned, Tensor):
        raise ValueError(
            f"{slot}.name = {stage.name!r}: returned {type(returned).__name__}: needs a tensor or "
            "rlnorm.advantages.Advantages"
        )
    return returned
