"""Advantage estimators. A new one is a file beside these and a line in ESTIMATORS.

An estimator is a plain function: its positional parameters are data columns, filled by name, and
its keyword-only parameters are options. It returns one advantage per rollout [n], turn [n u] or
trained token [t], or an `Advantages` when it also says which rollouts train.
"""

from collections.abc import Callable
from typing import Any

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
from rlnorm.advantages.shaping import conditioned, overlong
from rlnorm.advantages.types import Advantages

ESTIMATORS: dict[str, Callable[..., Any]] = {
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

SHAPERS: dict[str, Callable[..., Any]] = {"conditioned": conditioned, "overlong": overlong}
"""Functions of the reward table that run before the estimator."""

__all__ = ["ESTIMATORS", "SHAPERS", "Advantages"]
