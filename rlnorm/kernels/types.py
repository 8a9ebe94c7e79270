"""What the kernels take and return. Axes: t tokens, d hidden, v vocabulary (the local shard)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypedDict

from jaxtyping import Bool, Float, Int
from torch import Tensor


class TokenStats(NamedTuple):
    """One [t] vector per statistic that was asked for, None for the others; 0 on masked rows.

    With s = logits / temperature and p = softmax(s), in nats.
    """

    logprob: Float[Tensor, " t"] | None = None
    """log p of the target."""
    entropy: Float[Tensor, " t"] | None = None
    """-sum p log p."""
    lse: Float[Tensor, " t"] | None = None
    """logsumexp(s)."""
    max_logprob: Float[Tensor, " t"] | None = None
    """log p of the likeliest token; not differentiable."""
    log_kept_mass: Float[Tensor, " t"] | None = None
    """log M, M the mass of the tokens the proxy keeps. KL(proxy || policy) = -log M, and the
    gradient of -log M is the gradient of that KL with the proxy frozen."""
    proxy_logprob: Float[Tensor, " t"] | None = None
    """log of the target's renormalised proxy probability; -inf where the proxy drops it."""
    sum_p2: Float[Tensor, " t"] | None = None
    """sum p^2; not differentiable."""


STATISTICS: tuple[str, ...] = TokenStats._fields
DIFFERENTIABLE = ("logprob", "entropy", "lse", "log_kept_mass", "proxy_logprob")
PROXY_STATISTICS = ("log_kept_mass", "proxy_logprob")
# proxy_logprob follows from the others
ROW_STATISTICS = frozenset(STATISTICS) - {"proxy_logprob"}


@dataclass(frozen=True, slots=True)
class MinP:
    """The proxy of Lp-Reg (arXiv:2510.03222): keep p_j >= kappa * max p, renormalise.

    threshold_on "scaled" compares softmax(logits / temperature), "raw" compares softmax(logits)
    as the authors' released code does; the kept mass is under the scaled softmax in both.
    """

    kappa: float
    threshold_on: str = "scaled"

    def __post_init__(self) -> None:
        if not 0.0 < self.kappa <= 1.0:
            raise ValueError(f"proxy.kappa = {self.kappa!r}: must be in (0, 1]")
        if self.threshold_on not in ("scaled", "raw"):
            raise ValueError(
                f"proxy.threshold_on = {self.threshold_on!r}: choose 'scaled' or 'raw'"
            )

    def offsets(self, inv_temperature: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
        """How far below the row's largest s a kept token may lie; <= 0."""
        log_kappa = math.log(self.kappa)
        if self.threshold_on == "raw":
            return inv_temperature * log_kappa
        return inv_temperature.new_full(inv_temperature.shape, log_kappa)


class HeadArguments(TypedDict, total=False):
    """The keyword arguments every public function takes; `prepare_options` has the defaults."""

    temperature: float | Float[Tensor, " t"]
    """1.0 unless given. Not differentiated."""
    want: Iterable[str]
    """Which statistics, ("logprob",) unless given."""
    proxy: MinP | None
    """Needed for log_kept_mass and proxy_logprob."""
    softcap: float | None
    """Cap of cap * tanh(logit / cap), before the temperature."""
    row_mask: Bool[Tensor, " t"] | None
    """Rows where it is False give 0, their targets are not read, and they stay out of the
    matrix products."""
    vocab_start: int
    vocab_size: int | None
    """Columns from here on are padding, which is not read. With a tp_group the global size."""
    tp_group: Any
    """torch.distributed group whose ranks hold disjoint columns, from vocab_start on here; all
    other arguments and the loss must be the same on all of them."""
    workspace_bytes: int | None
    """Memory for logits: 96 MiB on a CPU and 512 MiB elsewhere unless given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOptions:
    """A validated call: what every backend needs besides hidden, weight, bias and targets."""

    want: frozenset[str]
    inv_temperature: Float[Tensor, " t"]
    """1 / temperature per row, in the dtype the statistics are computed in."""
    proxy: MinP | None = None
    softcap: float | None = None
    vocab_start: int = 0
    columns: int
    """Columns of this shard that are vocabulary; those after are padding."""
    shard_columns: int
    """The largest `columns` any rank may hold: chunk sizes must agree on all ranks."""
    workspace_bytes: int
    tp_group: Any = None
    """torch.distributed process group over which the vocabulary is split, None for no split."""

    def at(self, index: slice | Int[Tensor, " k"]) -> "HeadOptions":
        """The options of some of the tokens."""
        return replace(self, inv_temperature=self.inv_temperature[index])

    @property
    def wants_entropy(self) -> bool:
        return "entropy" in self.want

    @property
    def wants_proxy(self) -> bool:
        return self.proxy is not None and any(name in self.want for name in PROXY_STATISTICS)
