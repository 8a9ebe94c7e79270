"""Regularizers per trained token: added to the policy loss, or in its place on some tokens.

A regularizer is a plain function of data columns that returns [t] to add or a `Replacement`. One
that takes the column `selected` has a partner in SELECTORS, which marks tokens once over the
entire optimizer step; its config entry holds the options of both. A new one is a file beside
these and a line below.
"""

from collections.abc import Callable
from typing import Any

from rlnorm.regularizers.covariance import clip_cov, kl_cov, select_clip_cov, select_kl_cov
from rlnorm.regularizers.entropy import adaptive_entropy, entropy
from rlnorm.regularizers.kl import kl, kl_corrected
from rlnorm.regularizers.lp_reg import lp_reg, select_lp_reg
from rlnorm.regularizers.opsm import opsm
from rlnorm.regularizers.top_entropy import select_top_entropy, top_entropy
from rlnorm.regularizers.types import Replacement

REGULARIZERS: dict[str, Callable[..., Any]] = {
    "adaptive_entropy": adaptive_entropy,
    "clip_cov": clip_cov,
    "entropy": entropy,
    "kl": kl,
    "kl_corrected": kl_corrected,
    "kl_cov": kl_cov,
    "lp_reg": lp_reg,
    "opsm": opsm,
    "top_entropy": top_entropy,
}

SELECTORS: dict[str, Callable[..., Any]] = {
    "clip_cov": select_clip_cov,
    "kl_cov": select_kl_cov,
    "lp_reg": select_lp_reg,
    "top_entropy": select_top_entropy,
}

TOKEN_MEAN = frozenset({"adaptive_entropy", "entropy"})
"""Averaged over tokens whatever the aggregate of the policy loss is."""

__all__ = ["REGULARIZERS", "SELECTORS", "TOKEN_MEAN", "Replacement"]
