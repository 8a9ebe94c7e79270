"""KL to the reference policy, estimated on the sampled tokens.

Paper: Schulman 2020 (k1, k2, k3); GRPO arXiv:2402.03300 uses k3
Formula: d = ref - lp:  k1 = -d,  k2 = d^2 / 2,  k3 = exp(d) - d - 1,  abs = |d|;  adds coef * k
When: the policy must stay near a reference; most reasoning runs use none
Cost: a forward pass of the reference policy

A "+" gives the value of the named estimator and the gradient of k2, which is the unbiased
gradient on-policy. k3 clamps d to [-20, 20] and itself to [-10, 10] as verl does, without
gradient beyond; clamp false is TRL's. kl_corrected multiplies by the ratio (TRL's
use_bias_correction_kl), with gradient.
"""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from rlnorm.options import NonNegative, checked
from rlnorm.tokens import rollout_mean

Kind = Literal["k1", "k2", "k3", "abs", "k1+", "k2+", "k3+", "abs+"]


@checked()
def kl(
    logprobs: Float[Tensor, " t"],
    ref_logprobs: Float[Tensor, " t"],
    *,
    coef: NonNegative = 0.04,
    kind: Kind = "k3",
    clamp: bool = True,
) -> Float[Tensor, " t"]:
    """coef times the estimate of each token. Raises ValueError for an unknown kind."""
    return coef * kl_estimate(logprobs, ref_logprobs, kind=kind, clamp=clamp)


@checked()
def kl_corrected(
    logprobs: Float[Tensor, " t"],
    ref_logprobs: Float[Tensor, " t"],
    old_logprobs: Float[Tensor, " t"],
    rollout_index: Int[Tensor, " t"],
    *,
    coef: NonNegative = 0.04,
    kind: Kind = "k3",
    clamp: bool = True,
    level: Literal["token", "sequence"] = "token",
) -> Float[Tensor, " t"]:
    """kl times the ratio of each token, or of each rollout (geometric mean)."""
    log_ratio = logprobs - old_logprobs
    if level == "sequence":
        log_ratio = rollout_mean(log_ratio, rollout_index)[rollout_index]
    return kl(logprobs, ref_logprobs, coef=coef, kind=kind, clamp=clamp) * log_ratio.exp()


def kl_estimate(
    logprobs: Float[Tensor, " t"],
    ref_logprobs: Float[Tensor, " t"],
    *,
    kind: Kind = "k3",
    clamp: bool = True,
) -> Float[Tensor, " t"]:
    """The estimate of each token. Raises ValueError for an unknown kind."""
    if kind.endswith("+"):
        base: Kind = kind[:-1]  # type: ignore[assignment]  # "k3+" without its "+"
        value = kl_estimate(logprobs, ref_logprobs, kind=base, clamp=clamp)
        k2 = 0.5 * (logprobs - ref_logprobs).square()
        return k2 - k2.detach() + value.detach()
    d = ref_logprobs - logprobs
    if kind == "k1":
        return -d
    if kind == "k2":
        return 0.5 * d.square()
    if kind == "abs":
        return d.abs()
    if kind == "k3":
        d = d.clamp(-20.0, 20.0) if clamp else d
        k3 = d.exp() - d - 1
        return k3.clamp(-10.0, 10.0) if clamp else k3
    raise ValueError(f"kl: kind = {kind!r}: choose k1, k2, k3 or abs, with or without a final '+'")
