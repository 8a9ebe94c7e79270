"""From sums over columns to statistics per row, and from their gradients to row scalars."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rlnorm.kernels.rows import Partials, RowScalars
from rlnorm.kernels.types import HeadOptions, TokenStats


def merge(parts: Sequence[Partials]) -> Partials:
    """Join the partials of disjoint columns in the order given; exact, and bitwise equal for the
    same order."""
    total, *others = map(_without_nan, parts)
    for part in others:
        total = _merge_two(total, part)
    return total


def _without_nan(part: Partials) -> Partials:
    """Columns that are all -inf add nothing, like an empty block."""
    there = part.peak > -torch.inf
    sums = {name: getattr(part, name) for name in ("rest", "centred", "squares")}
    return part._replace(**{name: x.where(there, 0.0) for name, x in sums.items()})


def _merge_two(x: Partials, y: Partials) -> Partials:
    peak = torch.maximum(x.peak, y.peak)
    first = x.peak >= y.peak
    shift_x, shift_y = _below(x.peak, peak), _below(y.peak, peak)
    scale_x, scale_y = shift_x.exp(), shift_y.exp()
    loser = torch.where(first, scale_y, scale_x)
    # a block without columns has peak -inf: scale 0, and its shift must not turn 0 into NaN
    move_x = torch.where(scale_x > 0, shift_x, 0.0)
    move_y = torch.where(scale_y > 0, shift_y, 0.0)
    return Partials(
        peak=peak,
        rest=scale_x * x.rest + scale_y * y.rest + loser,
        centred=scale_x * (x.centred + move_x * (1 + x.rest))
        + scale_y * (y.centred + move_y * (1 + y.rest)),
        squares=scale_x.square() * x.squares + scale_y.square() * y.squares,
        target=torch.maximum(x.target, y.target),
    )


def _below(peak: Float[Tensor, " c"], top: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
    return torch.where(peak == top, 0.0, peak - top)


class Summary(NamedTuple):
    """Per row: what backward needs besides the logits, and what determines all forward values."""

    peak: Float[Tensor, " t"]
    log_z: Float[Tensor, " t"]
    logprob: Float[Tensor, " t"]
    entropy: Float[Tensor, " t"] | None
    sum_p2: Float[Tensor, " t"] | None
    log_kept_mass: Float[Tensor, " t"] | None = None
    target_kept: Float[Tensor, " t"] | None = None
    """1 where the proxy keeps the target, else 0."""


def summarise(partials: Partials, options: HeadOptions) -> Summary:
    """Everything but the kept mass, which needs another pass over the logits."""
    log_z = partials.rest.log1p()
    z = 1 + partials.rest
    return Summary(
        peak=partials.peak,
        log_z=log_z,
        logprob=(partials.target - partials.peak) - log_z,
        entropy=log_z - partials.centred / z if options.wants_entropy else None,
        sum_p2=partials.squares / z.square() if "sum_p2" in options.want else None,
    )


def with_kept_mass(
    summary: Summary,
    kept: Float[Tensor, " t"],
    dropped: Float[Tensor, " t"],
    offset: Float[Tensor, " t"],
) -> Summary:
    """Add the proxy's row statistics. log M comes from whichever of the two sums is smaller."""
    lost = dropped * torch.exp(-summary.log_z)
    log_kept = torch.where(lost < 0.5, torch.log1p(-lost), kept.log() - summary.log_z)
    target_kept = (summary.logprob + summary.log_z >= offset).to(log_kept.dtype)
    return summary._replace(log_kept_mass=log_kept, target_kept=target_kept)


def token_stats_of(summary: Summary, want: frozenset[str]) -> TokenStats:
    """The statistics asked for, without proxy_logprob."""
    values = {
        "logprob": summary.logprob,
        "entropy": summary.entropy,
        "lse": summary.peak + summary.log_z,
        "max_logprob": -summary.log_z,
        "log_kept_mass": summary.log_kept_mass,
        "sum_p2": summary.sum_p2,
    }
    return TokenStats(**{name: x for name, x in values.items() if name in want})


def proxy_logprob(
    logprob: Float[Tensor, " t"],
    log_kept_mass: Float[Tensor, " t"],
    target_kept: Float[Tensor, " t"],
) -> Float[Tensor, " t"]:
    """log q of the target; -inf, and no gradient, where it is dropped."""
    return (logprob - log_kept_mass).where(target_kept > 0, -torch.inf)


def selected(
    stats: TokenStats, target_kept: Float[Tensor, " t"] | None, want: frozenset[str]
) -> TokenStats:
    """The requested row statistics, with proxy_logprob."""
    if "proxy_logprob" in want:
        assert stats.logprob is not None
        assert stats.log_kept_mass is not None
        assert target_kept is not None
        proxy = proxy_logprob(stats.logprob, stats.log_kept_mass, target_kept)
        stats = stats._replace(proxy_logprob=proxy)
    pairs = zip(TokenStats._fields, stats, strict=True)
    return TokenStats(**{name: x for name, x in pairs if name in want})


class Upstream(NamedTuple):
    """Gradients of the loss in the row statistics; None for 0."""

    logprob: Float[Tensor, " t"] | None = None
    entropy: Float[Tensor, " t"] | None = None
    lse: Float[Tensor, " t"] | None = None
    log_kept_mass: Float[Tensor, " t"] | None = None

    def nonzero(self) -> Float[Tensor, " t"]:
        """Sum of absolute values: exactly 0 on rows without upstream gradient."""
        return torch.stack([x.abs() for x in self if x is not None]).sum(dim=0)


def row_scalars(
    summary: Summary, upstream: Upstream, offset: Float[Tensor, " t"] | None
) -> RowScalars:
    """The coefficients of each row. Where p of the target or the kept mass is near 1, 1 - p and
    1 / M - 1 would lose all their digits; the target's derivative comes from the logprob itself,
    not from logits that another product may have rounded otherwise."""
    g = torch.zeros_like(summary.peak) if upstream.logprob is None else upstream.logprob
    log_p = summary.logprob
    a, at_target, b, c, d = -g, torch.zeros_like(g), None, None, None
    if upstream.entropy is not None and summary.entropy is not None:
        a, b = a - upstream.entropy * summary.entropy, -upstream.entropy
        at_target = at_target + b * (log_p + summary.entropy)
    if upstream.lse is not None:
        a, at_target = a + upstream.lse, at_target + upstream.lse
    if upstream.log_kept_mass is not None and summary.log_kept_mass is not None:
        assert offset is not None
        c = upstream.log_kept_mass * torch.expm1(-summary.log_kept_mass)
        d = -upstream.log_kept_mass
        at_target = at_target + torch.where(log_p + summary.log_z >= offset, c, d)
    at_target = torch.exp(log_p) * at_target - g * torch.expm1(log_p)
    kept_from = None if c is None else offset
    return RowScalars(summary.peak, summary.log_z, a, at_target, b, c, d, kept_from)
