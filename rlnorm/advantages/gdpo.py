"""GDPO: every reward normalised within its group, then their sum normalised over the batch.

Paper: arXiv:2601.05242; NVlabs/GDPO b080e63d
Formula: z_k = (r_k - mean_gk) / (std_gk + eps),  s = sum_k w_k z_k,
    A = (s - mean s) / (std s + batch_eps)
When: several rewards of unlike scale or difficulty; a weight of 0.5 halves a reward's influence
Cost: one pass over the rewards for each component

The paper's equation counts rollouts; the authors' verl branch and verl 0.9.1 whiten over tokens,
so that long answers dominate the mean (batch_norm_weighting "token"; then a constant group does
not get 0). With one component this is GRPO followed by batch whitening, not GRPO. When all sums
are close to 0 the batch stage amplifies them: only batch_eps bounds it.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from rlnorm.advantages.bnpo import bnpo
from rlnorm.advantages.combinators import per_component, weighted_sum, whiten
from rlnorm.advantages.grpo import grpo
from rlnorm.advantages.mc_grpo import mc_grpo
from rlnorm.advantages.reinforce import reinforce
from rlnorm.advantages.rloo import rloo
from rlnorm.inputs import check_rows, group_relative, weighted_columns
from rlnorm.options import Ddof, NonNegative, checked
from rlnorm.types import Advantages, GroupIndex, Rewards

BASES: dict[str, Callable[..., Advantages]] = {
    "grpo": grpo,
    "bnpo": bnpo,
    "mc_grpo": mc_grpo,
    "reinforce": reinforce,
    "rloo": rloo,
}
"""The estimators of the first stage; all but mc_grpo sum to 0 within a group."""


@checked()
def gdpo(
    rewards: Rewards,
    group_index: GroupIndex = None,
    lengths: Int[Tensor, " n"] | None = None,
    *,
    weights: Sequence[float] | None = None,
    missing: Literal["skip", "zero"] = "skip",
    base: Literal["grpo", "bnpo", "mc_grpo", "reinforce", "rloo"] = "grpo",
    eps: NonNegative = 1e-4,
    ddof: Ddof = 1,
    singleton: Literal["zero", "reward"] = "zero",
    batch_norm_weighting: Literal["sequence", "token", "none"] = "sequence",
    batch_eps: NonNegative = 1e-4,
    batch_ddof: Ddof = 1,
) -> Advantages:
    """Advantage of each rollout; a component constant within a group adds exactly 0 there.

    weights: one per component, all 1 unless given. missing: "skip" leaves a NaN component out;
    "zero" makes it a reward of 0 (the authors' TRL branch). base: the estimator of the first
    stage; eps, ddof, singleton are grpo's. batch_norm_weighting: what counts in the second stage:
    rollouts, their trained tokens (then batch_eps goes inside the root), or "none" for no second
    stage. Raises ValueError on bad rewards or weights, or without the lengths "token" needs.
    """
    table, groups, w = weighted_columns("gdpo", rewards, group_index, weights)
    if missing == "zero":
        table = table.nan_to_num(0.0)
    options = {"eps": eps, "ddof": ddof, "singleton": singleton} if base == "grpo" else {}
    total = weighted_sum(per_component(BASES[base], table, group_index, **options), w)
    if batch_norm_weighting == "token":
        if lengths is None:
            raise ValueError("gdpo: lengths is None: batch_norm_weighting 'token' needs them")
        check_rows("gdpo", "lengths", lengths, table.shape[0])
        total = whiten(total, lengths.double(), eps=batch_eps, ddof=batch_ddof, eps_inside=True)
    elif batch_norm_weighting == "sequence":
        # groups that sum to 0 leave a mean of 0; subtracting its rounding would break exact zeros
        centre = base == "mc_grpo" or singleton == "reward"
        total = whiten(total, eps=batch_eps, ddof=batch_ddof, centre=centre)
    return group_relative(total, table, groups)
