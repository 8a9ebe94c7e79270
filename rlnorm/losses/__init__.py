"""Policy losses per trained token. To add one, write a file here and a line in LOSSES.

A loss is a plain function of data columns of a microbatch of complete rollouts; it returns [t], or
a `TokenLoss` that also carries clip flags. Aggregation, correction and regularizers come after.
"""

from collections.abc import Callable
from typing import Any

from rlnorm.losses.aggregate import AGGREGATES
from rlnorm.losses.cispo import cispo
from rlnorm.losses.gmpo import gmpo
from rlnorm.losses.gspo import gspo, gspo_token
from rlnorm.losses.ppo_clip import ppo_clip
from rlnorm.losses.ppo_ewma import ppo_ewma
from rlnorm.losses.reinforce import reinforce
from rlnorm.losses.sapo import sapo
from rlnorm.losses.types import TokenLoss
from rlnorm.losses.vespo import vespo

LOSSES: dict[str, Callable[..., Any]] = {
    "cispo": cispo,
    "gmpo": gmpo,
    "gspo": gspo,
    "gspo_token": gspo_token,
    "ppo_clip": ppo_clip,
    "ppo_ewma": ppo_ewma,
    "reinforce": reinforce,
    "sapo": sapo,
    "vespo": vespo,
}

__all__ = ["AGGREGATES", "LOSSES", "TokenLoss"]
