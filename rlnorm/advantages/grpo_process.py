"""GRPO with process supervision: step rewards z-scored together, then summed from each step on.

Paper: DeepSeekMath, arXiv:2402.03300, section 4.1.3
Formula: z = (r_step - mean) / (std + eps) over all steps of a group,
    A_step = sum of z from there on
When: a reward for every reasoning step
Cost: one pass over the step rewards; tokens need the index of their step

Steps are turns: a token of turn u gets the sum over the turns from u on. The paper adds no eps
and leaves ddof open.
"""

from jaxtyping import Float
from torch import Tensor

from rlnorm.groups import Groups, group_zscore
from rlnorm.inputs import check_groups, check_table, zero_missing
from rlnorm.options import Ddof, NonNegative, checked
from rlnorm.types import Advantages, GroupIndex


@checked()
def grpo_process(
    turn_rewards: Float[Tensor, "n u"],
    group_index: GroupIndex = None,
    *,
    eps: NonNegative = 0.0,
    ddof: Ddof = 1,
) -> Advantages:
    """Advantage of each step; NaN marks a step that does not exist. Equal rewards give 0.

    Raises ValueError for a table of wrong shape, no step at all, or an infinite reward.
    """
    check_table("grpo_process", "turn_rewards", turn_rewards)
    groups = check_groups("grpo_process", group_index, turn_rewards.shape[0])
    steps = turn_rewards.shape[1]
    flat = Groups(groups.index.repeat_interleave(steps), groups.count)
    scores = group_zscore(turn_rewards.double().reshape(-1), flat, eps=eps, ddof=ddof)
    table = zero_missing(scores).reshape(turn_rewards.shape)
    values = table.flip(1).cumsum(1).flip(1)
    return Advantages(values, ~turn_rewards.isnan().all(dim=1))
