"""Modulators: functions of the advantages that run after the estimator, in the order given.

The parameter `advantages` is an Advantages, as the estimator returned it, and so is the result; the
other parameters are data columns. A new one is a file and a line below.
"""

from collections.abc import Callable

from rlnorm.modulators.ace import ace
from rlnorm.modulators.clip import clip
from rlnorm.modulators.drop_truncated import drop_truncated
from rlnorm.types import Advantages

MODULATORS: dict[str, Callable[..., Advantages]] = {
    "ace": ace,
    "clip": clip,
    "drop_truncated": drop_truncated,
}

__all__ = ["MODULATORS"]
