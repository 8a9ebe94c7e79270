"""Advantage estimators: rewards [n] or [n, r] and the group of each rollout in, advantages out.

    from rlnorm.advantages import estimate, from_matrix, grpo

    estimate("dr_grpo", rewards, group_index).values  # by the name a config gives it
    grpo(rewards, group_index, eps=1e-4).values  # an estimator as a function
    estimate("gdpo", *from_matrix(matrix))  # a prompts x G matrix

All return `Advantages`: values per rollout [n], turn [n u] or trained token [t], and which rollouts
train. Positional parameters are data columns, filled by name; keyword-only ones are options. A new
estimator is a file beside these and a line in ESTIMATORS.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from rlnorm.advantages.bnpo import bnpo
from rlnorm.advantages.gdpo import gdpo
from rlnorm.advantages.gpg import gpg
from rlnorm.advantages.grpo import grpo
from rlnorm.advantages.grpo_compat import grpo_compat
from rlnorm.advantages.grpo_process import grpo_process
from rlnorm.advantages.mapo import mapo
from rlnorm.advantages.mapo_certainty import mapo_certainty
from rlnorm.advantages.mc_grpo import mc_grpo
from rlnorm.advantages.opo import opo
from rlnorm.advantages.otb import otb
from rlnorm.advantages.pass_at_k import pass_at_k
from rlnorm.advantages.reinforce import reinforce
from rlnorm.advantages.reinforce_pp import reinforce_pp, reinforce_pp_kl
from rlnorm.advantages.remax import remax
from rlnorm.advantages.rloo import rloo
from rlnorm.advantages.run import run_stages
from rlnorm.advantages.shaping import conditioned, overlong
from rlnorm.inputs import from_matrix, given_groups
from rlnorm.lookup import suggest
from rlnorm.modulators import MODULATORS
from rlnorm.named_algorithms import ALGORITHMS, DEFAULTS, named_algorithm
from rlnorm.slots import DRIVER_COLUMNS, MODULATOR_COLUMNS, overridden, stages
from rlnorm.stages import Stage, resolve_stage
from rlnorm.types import Advantages, GroupIndex, Rewards

ESTIMATORS: dict[str, Callable[..., Advantages]] = {
    "bnpo": bnpo,
    "gdpo": gdpo,
    "gpg": gpg,
    "grpo": grpo,
    "grpo_compat": grpo_compat,
    "grpo_process": grpo_process,
    "mapo": mapo,
    "mapo_certainty": mapo_certainty,
    "mc_grpo": mc_grpo,
    "opo": opo,
    "otb": otb,
    "pass_at_k": pass_at_k,
    "reinforce": reinforce,
    "reinforce_pp": reinforce_pp,
    "reinforce_pp_kl": reinforce_pp_kl,
    "remax": remax,
    "rloo": rloo,
}

_OTHER_BASELINES = {"mapo", "grpo_process", "reinforce_pp", "reinforce_pp_kl", "remax"}
GROUP_RELATIVE = frozenset(ESTIMATORS) - _OTHER_BASELINES
"""Estimators for which a group of one carries no information, so that it does not train."""

SHAPERS: dict[str, Callable[..., Tensor]] = {"conditioned": conditioned, "overlong": overlong}
"""Functions of the reward table that run before the estimator."""


def estimate(
    algorithm: str, rewards: Rewards | None = None, group_index: GroupIndex = None, **inputs: Any
) -> Advantages:
    """Advantages of an algorithm named as in a config: reward shaping, estimator, modulators.

    algorithm: a named algorithm, an estimator, or 'package.module:function' or 'file.py:function'
    of your own. inputs: tensors are further data columns (lengths, rollout_index, turn_rewards,
    old_logprobs, ...), other values are options of the estimator. Other slots are overridden with
    `rlnorm.algorithms.resolve_algorithm(name, slots).advantages(columns)`. Raises ValueError for
    an unknown name, column or option, a missing column, and without group_index.
    """
    data = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    options = {name: value for name, value in inputs.items() if name not in data}
    if unknown := sorted(data.keys() - DRIVER_COLUMNS):
        raise ValueError(
            f"{unknown[0]}: not a data column: allowed {sorted(DRIVER_COLUMNS)}"
            f"{suggest(unknown[0], DRIVER_COLUMNS)}"
        )
    data["group_index"] = given_groups(algorithm, group_index)
    if rewards is not None:
        data["rewards"] = rewards[:, None] if rewards.dim() == 1 else rewards
    own = ":" in algorithm or algorithm in ESTIMATORS.keys() - ALGORITHMS
    named = {"estimator": algorithm} if own else named_algorithm(algorithm).slots
    slots = {**DEFAULTS, **named}
    slots["estimator"] = overridden("estimator", slots["estimator"], options)
    return run_stages(*advantage_stages(slots), data)


def advantage_stages(
    slots: Mapping[str, Any],
) -> tuple[tuple[Stage, ...], Stage, tuple[Stage, ...]]:
    """The stages of an algorithm that make advantages: shaping, estimator, modulators."""
    return (
        stages("shaping", slots["shaping"], SHAPERS, DRIVER_COLUMNS),
        resolve_stage("estimator", slots["estimator"], ESTIMATORS, DRIVER_COLUMNS),
        stages("modulators", slots["modulators"], MODULATORS, MODULATOR_COLUMNS),
    )


__all__ = [
    "ESTIMATORS", "SHAPERS", "Advantages", "bnpo", "estimate", "from_matrix", "gdpo", "gpg", "grpo",
    "grpo_compat", "grpo_process", "mapo", "mapo_certainty", "mc_grpo", "opo", "otb", "pass_at_k",
    "reinforce", "reinforce_pp", "reinforce_pp_kl", "remax", "rloo",
]  # fmt: skip
