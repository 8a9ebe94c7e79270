"""Per-token statistics of a language-model head without ever holding the [t, v] logits.

`token_stats` from hidden states and head weight, `stats_from_logits` from given logits.
`reference` defines every statistic in float64; the other backends must match it.
"""

from rlnorm.kernels.api import stats_from_logits, token_stats
from rlnorm.kernels.types import DIFFERENTIABLE, STATISTICS, MinP, TokenStats

__all__ = [
    "DIFFERENTIABLE",
    "STATISTICS",
    "MinP",
    "TokenStats",
    "stats_from_logits",
    "token_stats",
]
