"""The definition of sampling: the torch engine runs this code, the compiled engine implements it.

Random numbers are a function of seed and position: token p of the completion with seed s uses
u(s, p) = mix(mix(s) + (p + 1) * GOLDEN) / 2**64, with mix the finaliser of SplitMix64 (Steele,
Lea, Flood, OOPSLA 2014), so a completion never depends on what else is in the batch.
The sampled token is the first in index order whose cumulative probability exceeds u.
min-p, then top-k, then top-p truncate the distribution at the sampling temperature, in vLLM's
order: top-p is relative to the mass that min-p and top-k leave.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.trainers.rollout.types import SamplingParams

GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_ELEMENTS_AT_ONCE = 1 << 24


def check_sampling(sampling: SamplingParams, where: str) -> None:
    """Raise ValueError for an invalid value. where: names the request in the message."""
    rules = {
        "temperature": (0 <= sampling.temperature < float("inf"), "a finite number >= 0"),
        "top_p": (0 < sampling.top_p <= 1, "0 < top_p <= 1"),
        "top_k": (sampling.top_k >= 0, "an integer >= 0 (0 is off)"),
        "min_p": (0 <= sampling.min_p <= 1, "0 <= min_p <= 1"),
        "max_tokens": (sampling.max_tokens >= 1, "an integer >= 1"),
        "stop": (all(sampling.stop), "strings that are not empty"),
    }
    for name, (fine, allowed) in rules.items():
        if not fine:
            got = getattr(sampling, name)
            raise ValueError(f"{where}: sampling.{name} = {got!r}: allowed is {allowed}")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(z: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    # int64 products wrap like unsigned ones; the masks turn arithmetic shifts into logical ones
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * _signed(_MIX_1)
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * _signed(_MIX_2)
    return z ^ (z >> 31 & (1 << 33) - 1)


def uniforms(seeds: Int[Tensor, " b"], position: int) -> Float[Tensor, " b"]:
    """Float64 in [0, 1), 52 bits each, for int64 seeds at one token position."""
    z = _mix(_mix(seeds) + _signed((position + 1) * GOLDEN & (1 << 64) - 1))
    return (z >> 12 & (1 << 52) - 1).double() * 2.0**-52


@dataclass(frozen=True, slots=True)
class RowSampling:
    """Sampling parameters of b rows."""

    temperature: Float[Tensor, " b"]
    """float32; 1 on greedy rows, whose logprobs are taken at temperature 1."""
    greedy: Bool[Tensor, " b"]
    top_k: Int[Tensor, " b"]
    top_p: Float[Tensor, " b"]
    min_p: Float[Tensor, " b"]
    is_cut: bool
    """True if any row uses top-k, top-p or min-p."""

    @classmethod
    def of(cls, rows: Sequence[SamplingParams], device: torch.device) -> "RowSampling":
        def column(values: list[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return cls(
            column([r.temperature or 1.0 for r in rows], torch.float32),
            column([r.temperature == 0 for r in rows], torch.bool),
            column([r.top_k for r in rows], torch.int64),
            column([r.top_p for r in rows], torch.float64),
            column([r.min_p for r in rows], torch.float32),
            any(r.top_k > 0 or r.top_p < 1 or r.min_p > 0 for r in rows),
        )

    def select(self, index: Int[Tensor, " k"] | slice) -> "RowSampling":
        """The rows at index, in that order."""
        names = ("temperature", "greedy", "top_k", "top_p", "min_p")
        return replace(self, **{name: getattr(self, name)[index] for name in names})


def kept_tokens(
    scaled: Float[Tensor, "b v"],
    top_k: Int[Tensor, " b"],
    top_p: Float[Tensor, " b"],
    min_p: Float[Tensor, " b"],
) -> Bool[Tensor, "b v"]:
    """True for the tokens that min-p, then top-k, then top-p keep. scaled: logits / temperature.

    All ties with the k-th largest are kept; of ties at the limit of top-p the lower index is kept;
    the most likely token is always kept.
    """
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    mass = (ordered - ordered[:, :1]).exp()
    kth = top_k.clamp(max=scaled.shape[1])[:, None] - 1
    kept = (mass >= min_p[:, None]) & ((kth < 0) | (ordered >= ordered.gather(1, kth.clamp(min=0))))
    mass = _fixed_point(mass) * kept
    cumulative = mass.cumsum(dim=-1)
    before = cumulative - mass
    kept &= (before < top_p[:, None] * cumulative[:, -1:]) | (top_p[:, None] >= 1)
    kept[:, 0] = True
    return torch.zeros_like(kept).scatter_(1, order, kept)


def _fixed_point(mass: Float[Tensor, "b v"]) -> Int[Tensor, "b v"]:
    """Mass of at most 1 as integers in units of 2^-40, whose sums are exact in any order. Sums of
    floats are not reproducible on a GPU; torch refuses them in deterministic mode."""
    return (mass.double() * 2**40).long()


def _sample(
    logits: Float[Tensor, "b v"], rows: RowSampling, uniform: Float[Tensor, " b"]
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    scaled = logits.float() / rows.temperature[:, None]
    log_total = scaled.logsumexp(dim=-1)
    mass = (scaled - scaled.amax(dim=-1, keepdim=True)).exp()
    if rows.is_cut:
        mass = mass * kept_tokens(scaled, rows.top_k, rows.top_p, rows.min_p)
    cumulative = _fixed_point(mass).cumsum(dim=-1)
    target = (uniform[:, None] * cumulative[:, -1:]).long()
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    tokens = torch.where(rows.greedy, logits.argmax(dim=-1), drawn)
    return tokens, scaled.gather(1, tokens[:, None])[:, 0] - log_total


def sample(
    logits: Float[Tensor, "b v"], rows: RowSampling, uniform: Float[Tensor, " b"]
) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """One token and its log-probability for each row of logits.

    The log-probability is of logits / temperature over the full vocabulary, in float32, and not
    finite where the logits hold a NaN or +inf.
    """
    size = max(1, _ELEMENTS_AT_ONCE // logits.shape[1])
    parts = [
        _sample(logits[i : i + size], rows.select(slice(i, i + size)), uniform[i : i + size])
        for i in range(0, len(logits), size)
    ]
    tokens, logprobs = zip(*parts, strict=True)
    return torch.cat(tokens), torch.cat(logprobs)
