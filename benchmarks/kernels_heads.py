"""The heads that benchmarks/kernels.py compares: rlnorm's, plain torch's and every peer's.

Peers: liger-kernel 0.8.5 (Triton FLCE; scaled CE, CuTe on Hopper and a torch fallback elsewhere;
the native kernels of liger-cute-kernels with one rank), cut-cross-entropy 25.1.1. Of those only
the scaled heads give an entropy; the others are timed on the logprob alone, and say so.
"""

import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from rlnorm.kernels import MinP, TokenStats, fused_policy_loss, token_stats

COEFFICIENTS = {"logprob": 1.0, "entropy": 0.01, "log_kept_mass": -0.01}
PROXY = MinP(0.02)
LOGPROB, ENTROPY, LP_REG = ("logprob",), ("logprob", "entropy"), tuple(COEFFICIENTS)
Stats = dict[str, torch.Tensor]
Run = Callable[..., tuple[torch.Tensor, Stats]]


class Head(NamedTuple):
    """One row of the table: run(hidden, weight, targets, upstream) -> loss, statistics."""

    run: Run
    outputs: tuple[str, ...]
    products: int | None = None
    """Of forward and backward: 3 where logits or gradients are kept, 4 where recomputed."""
    foreign: bool = False
    """Another package's: tried in a process of its own first, which it may bring down."""


def loss_of(stats: Stats, upstream: torch.Tensor) -> torch.Tensor:
    return (sum(COEFFICIENTS[name] * x for name, x in stats.items()) * upstream).sum()


def of_stats(
    head: Callable[..., Stats],
    outputs: tuple[str, ...],
    products: int | None = None,
    *,
    foreign: bool = False,
) -> Head:
    def run(hidden, weight, targets, upstream):
        stats = head(hidden, weight, targets)
        return loss_of(stats, upstream), stats

    return Head(run, outputs, products, foreign)


def ours(backend: str, want: tuple[str, ...]) -> Head:
    def head(hidden, weight, targets):
        stats = token_stats(hidden, weight, targets, want=want, proxy=PROXY, backend=backend)
        return {name: getattr(stats, name) for name in want}

    return of_stats(head, want, products=4)


def ours_callback(backend: str, want: tuple[str, ...]) -> Head:
    def run(hidden, weight, targets, upstream):
        def loss(stats: TokenStats, rows: torch.Tensor) -> torch.Tensor:
            return loss_of({name: getattr(stats, name) for name in want}, upstream[rows])

        got = fused_policy_loss(
            hidden, weight, targets, loss, want=want, proxy=PROXY, backend=backend
        )
        return got.loss, {name: getattr(got.stats, name) for name in want}

    return Head(run, want, products=3)


def eager(hidden, weight, targets):
    logprobs = (hidden @ weight.T).float().log_softmax(dim=-1)
    entropy = -(logprobs.exp() * logprobs).sum(dim=-1)
    return {"logprob": logprobs.gather(1, targets[:, None])[:, 0], "entropy": entropy}


def eager_logprob(hidden, weight, targets):
    logprobs = (hidden @ weight.T).float().log_softmax(dim=-1)
    return {"logprob": logprobs.gather(1, targets[:, None])[:, 0]}


def torch_linear_cross_entropy(hidden, weight, targets):
    loss = torch.nn.functional.linear_cross_entropy(hidden, weight, targets, reduction="none")
    return {"logprob": -loss.float()}


def liger_linear_cross_entropy(hidden, weight, targets):
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    loss = liger_fused_linear_cross_entropy(
        hidden, weight, targets, reduction="none", accum_dtype=torch.float32
    )
    return {"logprob": -loss.float()}


def liger_scaled(hidden, weight, targets):
    from liger_kernel.ops.fused_linear_scaled_cross_entropy import (
        LigerFusedLinearScaledCrossEntropyFunction as Function,
    )

    nll, entropy = Function.apply(hidden, weight, targets, 1.0, -100, 1, True)
    return {"logprob": -nll.float(), "entropy": entropy.float()}


def liger_native(largest: tuple[int, int, int]) -> Callable[..., Stats]:
    """The tensor-parallel kernels with one rank, prepared for the largest (tokens, vocabulary,
    hidden). They fall back to torch in silence where the native library is not to be had. What
    NVSHMEM sets aside for them is not in the peak memory."""

    def head(hidden, weight, targets):
        import torch.distributed as dist
        from liger_kernel.ops.configure import FusedLinearCrossEntropyConfig, configure
        from liger_kernel.ops.cute.fused_linear_scaled_cross_entropy_tp import is_available
        from liger_kernel.ops.fused_linear_scaled_cross_entropy import (
            LigerFusedLinearScaledCrossEntropyTPFunction as Function,
        )

        if not is_available():
            raise ModuleNotFoundError("liger-cute-kernels is not installed or does not load")
        if not dist.is_initialized():
            store = f"file://{tempfile.mkdtemp()}/store"
            dist.init_process_group("nccl", init_method=store, rank=0, world_size=1)
            tokens, vocabulary, width = largest
            configure(
                bootstrap_group=dist.group.WORLD,
                device=hidden.device,
                flsce=FusedLinearCrossEntropyConfig(
                    max_tokens=tokens, hidden_size=width, local_vocab_size=vocabulary
                ),
            )
        nll, entropy = Function.apply(hidden, weight, targets, dist.group.WORLD, 1.0, -100, 1, True)
        return {"logprob": -nll.float(), "entropy": entropy.float()}

    return head


def cut_cross_entropy(**options: Any) -> Callable[..., Stats]:
    def head(hidden, weight, targets):
        from cut_cross_entropy import linear_cross_entropy

        loss = linear_cross_entropy(hidden, weight, targets, reduction="none", **options)
        return {"logprob": -loss.float()}

    return head


def heads(device: str, largest: tuple[int, int, int]) -> dict[str, Head]:
    """Name -> head, ours first."""
    fast = "triton" if device == "cuda" else "cpp"
    # a second shape would be compiled as one of any length, which is slower
    compiled = torch.compile(eager, dynamic=False, fullgraph=True)
    found = {
        f"rlnorm {fast}": ours(fast, ENTROPY),
        f"rlnorm {fast} + Lp-Reg": ours(fast, LP_REG),
        f"rlnorm {fast} callback": ours_callback(fast, ENTROPY),
        f"rlnorm {fast} callback + Lp-Reg": ours_callback(fast, LP_REG),
        "eager": of_stats(eager, ENTROPY, products=3),
        "torch.compile": of_stats(compiled, ENTROPY, products=3),
        "rlnorm chunked": ours("chunked", ENTROPY),
        "eager, logprob only": of_stats(eager_logprob, LOGPROB, products=3),
    }
    if hasattr(torch.nn.functional, "linear_cross_entropy"):
        found["torch linear_cross_entropy"] = of_stats(torch_linear_cross_entropy, LOGPROB)
    peers: dict[str, Head] = {"liger scaled CE": of_stats(liger_scaled, ENTROPY, foreign=True)}
    if device == "cuda":
        alone = {
            "liger FLCE": liger_linear_cross_entropy,
            # "high" is its default: blocks whose gradients are all below 2^-12 are skipped
            "cut-cross-entropy": cut_cross_entropy(impl="cce"),
            "cut-cross-entropy, no filter": cut_cross_entropy(impl="cce", filter_eps=None),
            "cut-cross-entropy torch_compile": cut_cross_entropy(impl="torch_compile"),
        }
        peers["liger native"] = of_stats(liger_native(largest), ENTROPY, foreign=True)
        peers |= {name: of_stats(x, LOGPROB, foreign=True) for name, x in alone.items()}
    return found | peers
