"""Modulators: functions of the advantages that run after the estimator, in the order given.

The parameter `advantages` is [n] per rollout, [n u] per turn or [t] per token, as the estimator
returned them; `advantage_index` [t] is the rollout of each where they are per token, else None. The
other parameters are data columns. A new one is a file and a line below.
"""

from collections.abc import Callable
from typing import Any

from rlnorm.modulators.ace import ace
from rlnorm.modulators.clip import clip
from rlnorm.modulators.drop_truncated import drop_truncated

MODULATORS: dict[str, Callable[..., Any]] = {
    "ace": ace,
    "clip": clip,
    "drop_truncated": drop_truncated,
}

__all__ = ["MODULATORS"]
