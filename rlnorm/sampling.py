"""How many rollouts to sample for a prompt, and which prompts to keep.

Paper: DAPO arXiv:2503.14476 (dynamic sampling), MC-GRPO arXiv:2601.22582 (pivot), ReMax (greedy)
Formula: sampled = group_size (+ 1 pivot);  keep a prompt when its rewards differ
When: dynamic sampling: many prompts are always or never solved
Cost: pivot: one extra rollout; greedy: one extra, not trained; resample: as many as needed
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.groups import group_count, group_max, group_min
from rlnorm.inputs import Missing, scalar_rewards


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePlan:
    """What to sample for each prompt of a step."""

    extra_kind: Literal["none", "pivot", "greedy"] = "none"
    """pivot: one extra sample, of which the estimator drops one; greedy: one at temperature 0."""
    resample: bool = False
    """Replace prompts whose rewards do not differ by fresh ones until the step is full."""
    max_rounds: int = 10
    """Rounds of resampling after which the step uses the prompts it has."""

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ValueError(f"sample_plan.max_rounds = {self.max_rounds}: needs 1 or more")

    def samples(self, group_size: int) -> int:
        """Rollouts of a prompt at the training temperature: group_size, plus the pivot."""
        return group_size + (self.extra_kind == "pivot")


def informative_groups(
    rewards: Float[Tensor, "n r"],
    group_index: Int[Tensor, " n"],
    *,
    weights: list[float] | None = None,
    missing: Missing = "drop",
    keep_singletons: bool = False,
) -> Bool[Tensor, " g"]:
    """True for groups, in increasing order of their label, whose rewards differ.

    keep_singletons: also groups of one, as verl does. Raises ValueError on bad rewards.
    """
    total, groups = scalar_rewards("informative_groups", rewards, group_index, weights, missing)
    differ = group_max(total, groups) > group_min(total, groups)
    if keep_singletons:
        differ = differ | (group_count(total, groups) == 1)
    return differ
