"""BNPO: rewards of a prompt weighted by a Beta density fitted to the batch's success rates.

Paper: arXiv:2506.02864; changyi7231/BNPO a9c51b98
Formula: A_k = (r_k - p_gk) * min(1 / BetaPDF(p_gk; alpha_k, beta_k), weight_max) of each component,
    A = sum_k w_k A_k / sum_k abs(w_k)
When: binary rewards, many prompts per step, success rates that move during training
Cost: one pass over the rewards for each component

p_g is the mean reward of a group; a, b fit Beta to the group means of this batch by moments,
alpha = max(1, 1 + a/3), beta = max(1, 1 + b/3), which minimises the variance of the gradient.
alpha = beta = 1 is REINFORCE with a group baseline, 3/2 is GRPO up to a constant.

Several components are estimated separately and averaged by their weights ("advantage
decomposition"). With equal weights that is the authors' arithmetic mean; a component of weight 0
is as if it were not there; and where alpha = beta = 1 it is the centred weighted sum of the
rewards, which every other estimator starts from, over the sum of the weights.

Departures from the authors' code: group means that do not vary give alpha = beta = 1 where it
returns NaN or raises; groups of one give 0 and stay out of the fit, where it returns 1e6 times
the reward. Not the "bnpo" of TRL, which is a token mean over a local batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.advantages.combinators import weighted_sum
from rlnorm.groups import group_centred, group_count, group_mean
from rlnorm.inputs import group_relative, weighted_columns
from rlnorm.options import Bound, checked
from rlnorm.types import Advantages, GroupIndex, Rewards


@dataclass(frozen=True, slots=True)
class BetaFit:
    """Beta(a, b) by the method of moments, and the alpha, beta that weight by it."""

    mean: float
    variance: float
    """Unbiased, over the groups of two or more."""
    a: float
    b: float
    alpha: float
    beta: float


def fit_beta(group_means: Float[Tensor, " g"], *, tol: float = 1e-12) -> BetaFit:
    """Fit the group means that are not NaN; alpha = beta = 1 when they do not vary by tol."""
    means = group_means[~group_means.isnan()]
    if means.numel() < 2 or means.max() - means.min() <= tol:
        mean = float(means.mean()) if means.numel() else 0.0
        return BetaFit(mean, 0.0, 0.0, 0.0, 1.0, 1.0)
    mean, variance = float(means.mean()), float(means.var())
    concentration = mean * (1 - mean) / variance - 1
    a, b = concentration * mean, concentration * (1 - mean)
    return BetaFit(mean, variance, a, b, max(1.0, 1 + a / 3), max(1.0, 1 + b / 3))


def beta_density(p: Float[Tensor, " g"], alpha: float, beta: float) -> Float[Tensor, " g"]:
    """Density of Beta(alpha, beta), alpha and beta at least 1."""
    a, b = p.new_tensor(alpha), p.new_tensor(beta)
    log_norm = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    return (torch.xlogy(a - 1, p) + torch.xlogy(b - 1, 1 - p) - log_norm).exp()


def _range(min_value: float, max_value: float) -> str:
    within = min_value < max_value
    return "" if within else f"max_value = {max_value}, needs more than min_value = {min_value}"


@checked(_range)
def bnpo(
    rewards: Rewards,
    group_index: GroupIndex = None,
    *,
    weights: Sequence[float] | None = None,
    min_value: float = 0.0,
    max_value: float = 1.0,
    weight_max: Bound = 1e6,
) -> Advantages:
    """Advantage of each rollout; 0 in a constant group, for a group of one, for a NaN reward.

    weights: one per reward column, all 1 unless given; only their ratios matter. A NaN component
    counts as 0. min_value, max_value: the range of every reward column, mapped to [0, 1].
    weight_max: largest weight of a prompt; 10 to 100 is safer for large groups. Raises ValueError
    on bad rewards or weights and on a reward outside the range.
    """
    table, groups, given = weighted_columns("bnpo", rewards, group_index, weights)
    outside = (table < min_value) | (table > max_value)
    if outside.any():
        row, column = outside.nonzero()[0].tolist()
        raise ValueError(
            f"bnpo: rewards[{row}, {column}] = {table[row, column].item():g}, needs a value in "
            f"[min_value, max_value] = [{min_value:g}, {max_value:g}]"
        )
    table = (table - min_value) / (max_value - min_value)
    means = group_mean(table, groups)
    means = means.where(group_count(table, groups) > 1, torch.nan)
    by_group = [_group_weights(column, weight_max) for column in means.unbind(dim=1)]
    parts = group_centred(table, groups) * torch.stack(by_group, dim=1)[groups.index]
    largest = sum(abs(w) for w in given)
    values = weighted_sum(parts, [w / largest for w in given])
    return group_relative(values, table, groups)


def _group_weights(means: Float[Tensor, " g"], weight_max: float) -> Float[Tensor, " g"]:
    fit = fit_beta(means)
    present = means.nan_to_num(0.5).clamp(0.0, 1.0)
    return beta_density(present, fit.alpha, fit.beta).reciprocal().clamp(0.0, weight_max)
