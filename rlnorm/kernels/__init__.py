"""Per-token statistics of a language-model head without ever holding the [t, v] logits.

`token_stats` from hidden states and head weight, `stats_from_logits` from given logits,
`fused_policy_loss` where the loss is a sum over tokens: no recomputation in backward.
`reference` defines every statistic in float64; the other backends must match it.
"""

from rlnorm.kernels.api import stats_from_logits, token_stats
from rlnorm.kernels.policy_loss import FusedLoss, fused_policy_loss
from rlnorm.kernels.types import DIFFERENTIABLE, STATISTICS, MinP, TokenStats

__all__ = [
    "DIFFERENTIABLE",
    "STATISTICS",
    "FusedLoss",
    "MinP",
    "TokenStats",
    "fused_policy_loss",
    "stats_from_logits",
    "token_stats",
]
