"""ReMax: the reward of a greedy rollout of the same prompt as baseline.

Paper: arXiv:2310.10505
Formula: A = r - r(greedy)
When: one sample per prompt, or to compare against what the policy does without sampling
Cost: one extra greedy rollout per prompt, not trained

A constant group does not get 0: its baseline is another rollout.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from rlnorm.inputs import Missing, check_rows, scalar_rewards, zero_missing
from rlnorm.options import checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@checked()
def remax(
    rewards: Rewards,
    group_index: GroupIndex,
    greedy_rewards: Float[Tensor, " n"],
    *,
    weights: Sequence[float] | None = None,
    missing: Missing = "drop",
) -> Advantages:
    """Advantage of each rollout; 0 where its reward or the greedy one is NaN.

    greedy_rewards: of the group's greedy rollout, weighted as rewards are. weights, missing: see
    grpo. Raises ValueError on bad rewards or weights, or an infinite greedy reward.
    """
    total, _ = scalar_rewards("remax", rewards, group_index, weights, missing)
    check_rows("remax", "greedy_rewards", greedy_rewards, total.shape[0])
    if greedy_rewards.isinf().any():
        raise ValueError("remax: greedy_rewards has an infinite value, needs finite ones or NaN")
    return Advantages(zero_missing(total - greedy_rewards.double()), ~total.isnan())
