"""MAPO (certainty): z-score where a prompt is uncertain, relative deviation where it is not.

Paper: arXiv:2509.18849; WenkeHuang/MAPO debcfd3f
Formula: A = lam * (r - mu) / (std + eps) + (1 - lam) * (r - mu) / (mu + eps),  lam = 4 p (1 - p)
When: binary rewards with many prompts nearly always or nearly never solved
Cost: one pass over the rewards, nothing else needed

p is the share of rewards exactly 1. The published file does not parse and attaches weights by
position; this groups by index. Rewards outside [0, 1] flip or inflate the second term, so they
are refused. Unrelated to the turn-level MAPO.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from rlnorm.groups import Groups, group_centred, group_mean, group_zscore
from rlnorm.inputs import Missing, group_relative, scalar_rewards
from rlnorm.options import Ddof, NonNegative, checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def mapo_certainty(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
    std_eps: NonNegative = 1e-6,
    mean_eps: NonNegative = 1e-6,
    ddof: Ddof = 1,
) -> Advantages:
    """Advantage of each rollout; 0 in a constant group, for a group of one, for a NaN reward.

    weights, missing: see grpo. Raises ValueError on bad rewards or weights, and for a weighted
    sum outside [0, 1].
    """
    total, groups = scalar_rewards("mapo_certainty", rewards, group_index, weights, missing)
    outside = (total < 0) | (total > 1)
    if outside.any():
        raise ValueError(
            f"mapo_certainty: rewards sum to {total[outside][0].item():g} in row "
            f"{int(outside.nonzero()[0])}, needs [0, 1]"
        )
    certainty = certainty_weight(total, groups)[groups.index]
    zscore = group_zscore(total, groups, eps=std_eps, ddof=ddof)
    mean = group_mean(total, groups)[groups.index] + mean_eps
    deviation = group_centred(total, groups) / mean.where(mean > 0, 1.0)
    values = certainty * zscore + (1 - certainty) * deviation
    return group_relative(values, total, groups)


def certainty_weight(total: Float[Tensor, " n"], groups: Groups) -> Float[Tensor, " g"]:
    """4 p (1 - p) of each group, p the share of its rewards that are exactly 1."""
    solved = (total == 1).double().where(~total.isnan(), total)
    p = group_mean(solved, groups)
    return 4 * p * (1 - p)
