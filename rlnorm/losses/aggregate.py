"""How token losses become one number, with denominators of the entire optimizer step.

Paper: DAPO arXiv:2503.14476 (token-mean), Dr. GRPO arXiv:2503.20783 (seq-mean-token-sum-norm)
Formula: a weighted sum of token losses; see each function
When: token-mean weighs tokens alike; seq-mean-token-mean weighs rollouts alike and so favours
    short right and long wrong answers; seq-mean-token-sum-norm has neither bias
Cost: none

The denominators are counted before the batch is split, so that the parts of any split add up to
the same number. Rollouts without a trained token count nowhere (TRL counts them).
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.options import NonNegative, Positive, checked
from rlnorm.tokens import rollout_lengths
from rlnorm.types import LossDenominators


@checked()
def token_mean(values: Float[Tensor, " t"], denominators: LossDenominators) -> Float[Tensor, ""]:
    """sum / trained tokens."""
    return values.sum() / max(denominators.tokens, 1)


@checked()
def seq_mean_token_mean(
    values: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    denominators: LossDenominators,
    *,
    eps: NonNegative = 1e-8,
) -> Float[Tensor, ""]:
    """Mean over rollouts of the mean over their tokens; eps is added to token counts (verl)."""
    counts = rollout_lengths(rollout_index).to(values.dtype) + eps
    return (values / counts[rollout_index]).sum() / max(denominators.rollouts, 1)


@checked()
def seq_mean_token_sum(
    values: Float[Tensor, " t"], denominators: LossDenominators
) -> Float[Tensor, ""]:
    """sum / rollouts."""
    return values.sum() / max(denominators.rollouts, 1)


@checked()
def seq_mean_token_sum_norm(
    values: Float[Tensor, " t"],
    denominators: LossDenominators,
    *,
    loss_scale_factor: Positive | None = None,
) -> Float[Tensor, ""]:
    """sum / rollouts / loss_scale_factor, a constant (verl's name for it).

    loss_scale_factor: None takes the horizon, the most tokens a completion may have.
    """
    if loss_scale_factor is None:
        loss_scale_factor = max(denominators.horizon, 1)
    return values.sum() / max(denominators.rollouts, 1) / loss_scale_factor


@checked()
def token_sum(values: Float[Tensor, " t"]) -> Float[Tensor, ""]:
    """sum."""
    return values.sum()


AGGREGATES: dict[str, Callable[..., Any]] = {
    "seq-mean-token-mean": seq_mean_token_mean,
    "seq-mean-token-sum": seq_mean_token_sum,
    "seq-mean-token-sum-norm": seq_mean_token_sum_norm,
    "token-mean": token_mean,
    "token-sum": token_sum,
}
