"""OPO: the group's length-weighted mean as baseline.

Paper: arXiv:2505.23585
Formula: A = r - sum(len * r) / sum(len)
When: lengths differ much within a group; the baseline of least variance if tokens are alike
Cost: one pass over the rewards and lengths
"""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.advantages.inputs import Missing, check_rows, scalar_rewards, zero_missing
from rlnorm.groups import group_centred


def opo(
    rewards: Float[Tensor, "n r"],
    group_index: Int[Tensor, " n"],
    lengths: Int[Tensor, " n"],
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
) -> Float[Tensor, " n"]:
    """Advantage of each rollout; 0 in a constant group, for a group of one, for a NaN reward.

    lengths: trained tokens; a group without any gets the plain mean as baseline. weights,
    missing: see grpo. Raises ValueError on bad rewards, weights or a negative length.
    """
    total, groups = scalar_rewards("opo", rewards, group_index, weights, missing)
    check_rows("opo", "lengths", lengths, total.shape[0])
    if (lengths < 0).any():
        raise ValueError(f"opo: lengths has {int(lengths.min())}, needs 0 or more")
    return zero_missing(group_centred(total, groups, weights=lengths.double()))
