"""Every backend against the float64 definition, in value and gradient.

Also run with the interpreted Triton kernels by test_triton_backend.py, hence the small sizes.
"""

import math

import pytest
import torch

from rlnorm.kernels import (
    DIFFERENTIABLE,
    STATISTICS,
    MinP,
    TokenStats,
    fused_policy_loss,
    stats_from_logits,
    token_stats,
)
from rlnorm.kernels.chunked import FEW_ROWS

# no tile divides them
SIZES = [
    (1, 1, 4), (1, 127, 4), (127, 1, 4), (127, 129, 8), (257, 127, 8), (129, 257, 16),
    (3, 32003, 6), (2, 151936, 4), (32003, 3, 64), (151936, 2, 64),
]  # fmt: skip


def peaked(t, v, d, dtype, seed=0):
    """Rows from flat to near one-hot, largest logits near 30."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(t, d, generator=generator, dtype=torch.float64)
    hidden *= torch.linspace(0.1, 6.0, t, dtype=torch.float64)[:, None] / d**0.5
    weight = torch.randn(v, d, generator=generator, dtype=torch.float64)
    targets = torch.randint(v, (t,), generator=generator)
    return hidden.to(dtype), weight.to(dtype), targets


def weighted(stats, upstream):
    """A loss with another gradient for every statistic and token; dropped proxies left out."""
    finite = ((getattr(stats, name).double(), w) for name, w in upstream.items())
    return sum((x.where(torch.isfinite(x), 0.0) * weights).sum() for x, weights in finite)


def relative(got, want):
    return ((got.double() - want.double()).norm() / want.double().norm()).item()


def assert_statistics(got, want):
    """The bars: logprob and lse 2e-5, entropy 1e-5 relative or 1e-6, log kept mass 1e-5."""
    for name in ("logprob", "lse", "max_logprob", "proxy_logprob"):
        torch.testing.assert_close(
            getattr(got, name).double(), getattr(want, name), rtol=0, atol=2e-5
        )
    torch.testing.assert_close(got.entropy.double(), want.entropy, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got.log_kept_mass.double(), want.log_kept_mass, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.sum_p2.double(), want.sum_p2, rtol=1e-5, atol=1e-7)


def assert_gradients(got, want, rows):
    """The bars: 1e-5 of the norm for float32 and 3e-3 for bfloat16, of few rows 1e-5 beside the
    rounding of the exact gradient, which no bfloat16 tensor escapes: 1 + 2^-8 lies halfway between
    its neighbours 1 and 1 + 2^-7, so a single entry can be off by 1 / 257 = 3.9e-3."""
    for ours, exact in zip(got, want, strict=True):
        bar = relative(exact.to(ours.dtype), exact) + 1e-5
        if ours.itemsize == 2 and rows > FEW_ROWS:
            bar = max(bar, 3e-3)
        assert relative(ours, exact) <= bar


def run(hidden, weight, targets, upstream, bias=None, **options):
    inputs = [hidden, weight] if bias is None else [hidden, weight, bias]
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    options["bias"] = None if bias is None else inputs[2]
    stats = token_stats(inputs[0], inputs[1], targets, want=STATISTICS, **options)
    return stats, torch.autograd.grad(weighted(stats, upstream), inputs)


def random_upstream(t, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(t, generator=generator, dtype=torch.float64) for name in DIFFERENTIABLE
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("t", "v", "d"), SIZES)
def test_statistics_and_gradients_match_float64(backend, t, v, d, dtype):
    t = min(t, 17) if backend == "triton" else t  # the interpreter takes milliseconds a row
    hidden, weight, targets = peaked(t, v, d, dtype)
    upstream = random_upstream(t)
    temperature = torch.linspace(0.6, 1.4, t)
    options = {"proxy": MinP(0.02), "temperature": temperature}
    want, want_grads = run(
        hidden.double(), weight.double(), targets, upstream, backend="reference",
        **{**options, "temperature": temperature.double()},
    )  # fmt: skip
    got, got_grads = run(hidden, weight, targets, upstream, backend=backend, **options)
    assert all(x.dtype == torch.float32 for x in got)
    assert_statistics(got, want)
    # with v = 1 every statistic is constant but lse, whose gradient is not 0
    assert_gradients(got_grads, want_grads, t)


def test_a_gradient_no_bfloat16_can_hold_to_3e_3(backend):
    """One logit h w with h = w = 1: the gradient of lse in h is the upstream, here 1 + 2^-8."""
    hidden = torch.ones(1, 1, dtype=torch.bfloat16, requires_grad=True)
    lse = token_stats(
        hidden, hidden.detach(), torch.tensor([0]), want=("lse",), backend=backend
    ).lse
    lse.backward(torch.tensor([1 + 2**-8]))
    assert abs(hidden.grad.item() - (1 + 2**-8)) == 2**-8


@pytest.mark.parametrize("name", ["logprob", "entropy", "log_kept_mass"])
@pytest.mark.parametrize("workspace_bytes", [1 << 14, 1 << 20])
def test_gradients_of_confident_tokens_keep_their_digits(backend, name, workspace_bytes):
    """1 - p and 1 / M - 1 are about 1e-6 here: taken from rounded p and M, 3 % of them would be
    noise. Every token has its own bar, so that the confident ones count."""
    weight = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(20)
    # every other row has two likely tokens, so that more than the largest logit is kept
    also = weight[targets + 20] * (torch.arange(20) % 2 * 0.98)[:, None]
    hidden = (weight[targets] + also) * torch.linspace(0.25, 0.4, 20)[:, None]
    rows = []
    for x, chosen in ((hidden.double(), "reference"), (hidden, backend)):
        x = x.clone().requires_grad_()
        stats = token_stats(
            x, weight.to(x.dtype), targets, want=STATISTICS, proxy=MinP(0.02), backend=chosen,
            workspace_bytes=workspace_bytes,
        )  # fmt: skip
        rows.append(torch.autograd.grad(getattr(stats, name).sum(), x)[0].double())
    want, got = rows
    # logits of up to 40 are rounded by about 4e-6, which a probability sees as relative error
    assert ((got - want).norm(dim=1) <= 5e-5 * want.norm(dim=1)).all()


@pytest.mark.parametrize("t", [7, 129])
def test_bias_gradient_is_summed_before_it_is_rounded(backend, t):
    t = min(t, 17) if backend == "triton" else t
    hidden, weight, targets = peaked(t, 131, 8, torch.bfloat16)
    bias = torch.linspace(-1, 1, 131).bfloat16()
    upstream = random_upstream(t)
    doubles = (hidden.double(), weight.double(), targets, upstream, bias.double())
    want = run(*doubles, proxy=MinP(0.1), backend="reference")[1]
    for workspace_bytes in (1 << 12, 1 << 20):
        got = run(
            hidden, weight, targets, upstream, bias, proxy=MinP(0.1), backend=backend,
            workspace_bytes=workspace_bytes,
        )[1]  # fmt: skip
        assert_gradients(got[:2], want[:2], t)
        assert_gradients(got[2:], want[2:], 1)


def test_bfloat16_logits_have_gradients_rounded_once(backend):
    """Confident rows: p - 1 of a rounded p would be lost, and so would tails that are filtered."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 129, generator=generator)
    targets = torch.randint(129, (40,), generator=generator)
    logits[torch.arange(40), targets] += torch.linspace(8, 16, 40)
    logits = logits.bfloat16()
    upstream = random_upstream(40)
    grads = []
    for x, name in ((logits.double(), "reference"), (logits, backend)):
        x = x.clone().requires_grad_()
        stats = stats_from_logits(x, targets, want=("logprob", "entropy"), backend=name)
        loss = (stats.logprob * upstream["logprob"]).sum()
        grads.append(torch.autograd.grad(loss, x)[0])
    want, got = grads
    # the interpreter truncates where a GPU rounds
    ulp = 2**-7 if backend == "triton" else 2**-8
    assert (got.double() - want).abs().le(want.abs() * (ulp + 1e-5)).all()


@pytest.mark.parametrize("threshold_on", ["scaled", "raw"])
def test_softcap_bias_and_both_thresholds(backend, threshold_on):
    hidden, weight, targets = peaked(33, 131, 8, torch.float32)
    bias = torch.linspace(-1, 1, 131)
    upstream = random_upstream(33)
    options = {"proxy": MinP(0.1, threshold_on), "temperature": 0.7, "softcap": 6.0}
    doubles = (hidden.double(), weight.double(), targets, upstream, bias.double())
    want, want_grads = run(*doubles, backend="reference", **options)
    got, got_grads = run(hidden, weight, targets, upstream, bias, backend=backend, **options)
    assert_statistics(got, want)
    assert_gradients(got_grads, want_grads, 33)


@pytest.mark.parametrize("v", [129, 4100])
@pytest.mark.parametrize("shift", [-100.0, -1000.0, 1000.0])
def test_shifted_logits(backend, shift, v):
    """Padding counted as logit 0, or a maximum that starts at 0, would show here."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(33, v, generator=generator) + shift
    targets = torch.randint(v, (33,), generator=generator)
    upstream = random_upstream(33)
    results = []
    for x, name in ((logits.double(), "reference"), (logits, backend)):
        x = x.clone().requires_grad_()
        stats = stats_from_logits(
            x, targets, want=STATISTICS, proxy=MinP(0.05), backend=name, workspace_bytes=4000
        )
        results.append((stats, torch.autograd.grad(weighted(stats, upstream), x)[0]))
    (want, want_grad), (got, got_grad) = results
    assert_statistics(got._replace(lse=want.lse), want)
    torch.testing.assert_close(got.lse.double(), want.lse, rtol=1e-7, atol=2e-5)
    assert_gradients([got_grad], [want_grad], 33)


@pytest.mark.parametrize("shift", [-100.0, -1000.0, 1000.0])
def test_shifted_logits_of_a_head(backend, shift):
    """Quarters times eighths: every logit is exact in float32, shifted or not."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randint(-8, 9, (33, 6), generator=generator) / 4.0
    weight = torch.randint(-8, 9, (259, 6), generator=generator) / 8.0
    targets = torch.randint(259, (33,), generator=generator)
    upstream = {k: x for k, x in random_upstream(33).items() if k != "lse"}
    results = []
    for bias in (torch.zeros(259), torch.full((259,), shift)):
        stats, gradients = run(
            hidden, weight, targets, upstream, bias, proxy=MinP(0.05), backend=backend,
            workspace_bytes=30_000,
        )  # fmt: skip
        results.append((stats._replace(lse=stats.lse - bias[0]), gradients))
    (want, want_grads), (got, got_grads) = results
    torch.testing.assert_close(got.lse, want.lse, rtol=0, atol=6.2e-5)  # ulp of 1000
    assert_statistics(got._replace(lse=want.lse), TokenStats(*(x.double() for x in want)))
    for ours, exact in zip(got_grads[:2], want_grads[:2], strict=True):
        assert relative(ours, exact) <= 1e-5


def test_near_one_hot_rows_keep_relative_precision_of_entropy(backend):
    """One logit 16 above 511 equal ones: with x = 511 e^-16, Z = 1 + x and
    H = log(1 + x) + 16 x / (1 + x), about 1e-3; the rounded 1 - p alone would cost 1e-4 of it."""
    logits = torch.zeros(2, 512)
    logits[0, 100] = logits[1, 511] = 16.0
    stats = stats_from_logits(
        logits, torch.tensor([100, 511]), want=("entropy", "logprob"), backend=backend
    )
    x = 511 * math.exp(-16)
    expected = torch.tensor([math.log1p(x) + 16 * x / (1 + x)] * 2)
    torch.testing.assert_close(stats.entropy, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(stats.logprob, torch.tensor([-math.log1p(x)] * 2), rtol=1e-5, atol=0)


def test_hand_computed_row(backend):
    """p = 1/2, 1/4, 1/8, 1/8; kappa 0.4 keeps the first two, kept mass 3/4."""
    log2 = math.log(2)
    logits = torch.tensor([[-1.0, -2.0, -3.0, -3.0]] * 2) * log2
    stats = stats_from_logits(
        logits, torch.tensor([1, 2]), want=STATISTICS, proxy=MinP(0.4), backend=backend
    )
    log_kept = math.log(0.75)
    expected = {
        "logprob": [-2 * log2, -3 * log2],
        "entropy": [1.75 * log2] * 2,
        "lse": [0.0, 0.0],
        "max_logprob": [-log2] * 2,
        "log_kept_mass": [log_kept] * 2,
        "proxy_logprob": [-2 * log2 - log_kept, -math.inf],
        "sum_p2": [1 / 4 + 1 / 16 + 1 / 64 + 1 / 64] * 2,
    }
    for name, values in expected.items():
        torch.testing.assert_close(getattr(stats, name), torch.tensor(values), rtol=1e-6, atol=1e-6)


def test_threshold_on_raw_and_on_scaled_logits(backend):
    """z = 0, -1 and s = z / 0.5 = 0, -2: against log kappa = -1.5 only the raw one keeps both."""
    kept = {}
    for threshold_on in ("raw", "scaled"):
        kept[threshold_on] = stats_from_logits(
            torch.tensor([[0.0, -1.0]]), torch.tensor([0]), temperature=0.5, backend=backend,
            want=("log_kept_mass",), proxy=MinP(math.exp(-1.5), threshold_on),
        ).log_kept_mass.item()  # fmt: skip
    assert kept["raw"] == pytest.approx(0, abs=1e-6)
    assert kept["scaled"] == pytest.approx(-math.log1p(math.exp(-2)), abs=1e-6)


def test_tied_largest_logits(backend):
    """Four equal logits: H = log 4, whichever of them is left out of the sum."""
    stats = stats_from_logits(
        torch.full((1, 4), 7.0),
        torch.tensor([2]),
        want=STATISTICS,
        proxy=MinP(1.0),
        backend=backend,
    )
    for name, value in (("entropy", math.log(4)), ("logprob", -math.log(4)), ("sum_p2", 0.25)):
        torch.testing.assert_close(getattr(stats, name), torch.tensor([value]))
    torch.testing.assert_close(stats.log_kept_mass, torch.zeros(1), rtol=0, atol=1e-6)


def test_forbidden_tokens_have_no_weight(backend):
    """A logit of -inf is a token that cannot be; the others behave as if it were not there."""
    logits = torch.tensor([[1.0, 2.0, -math.inf, 0.5]])
    want = stats_from_logits(
        logits[:, [0, 1, 3]].double(), torch.tensor([0]), want=STATISTICS, proxy=MinP(0.3),
        backend="reference",
    )  # fmt: skip
    logits = logits.requires_grad_()
    got = stats_from_logits(
        logits, torch.tensor([0]), want=STATISTICS, proxy=MinP(0.3), backend=backend
    )
    assert_statistics(got, want)
    (gradient,) = torch.autograd.grad(got.logprob.sum() + got.entropy.sum(), logits)
    assert torch.isfinite(gradient).all()
    assert abs(gradient[0, 2].item()) < 1e-30


def test_forbidden_ranges_as_wide_as_a_block_have_no_weight(backend):
    """Wherever they lie: before, between or after the tokens that can be."""
    allowed = torch.tensor([[1.0, 2.0, 0.5]])
    wall = torch.full((1, 4096), -math.inf)
    want = stats_from_logits(
        allowed.double(), torch.tensor([1]), want=STATISTICS, proxy=MinP(0.3), backend="reference"
    )
    for parts in ((wall, allowed), (allowed, wall), (wall, allowed[:, :2], wall, allowed[:, 2:])):
        logits = torch.cat(parts, dim=1).requires_grad_()
        target = (logits[0] == 2.0).nonzero()[0]
        got = stats_from_logits(logits, target, want=STATISTICS, proxy=MinP(0.3), backend=backend)
        assert_statistics(got, want)
        (gradient,) = torch.autograd.grad(got.logprob.sum() + got.entropy.sum(), logits)
        assert torch.isfinite(gradient).all()


def test_many_chunks_agree_with_one(backend):
    """t < v slices the vocabulary in backward, t >= v the tokens; no sum is rounded per chunk."""
    shapes = ((17, 70), (30, 20)) if backend == "triton" else ((70, 170), (140, 90), (17, 70))
    for t, v in shapes:
        for dtype in (torch.float32, torch.bfloat16):
            hidden, weight, targets = peaked(t, v, 8, dtype)
            upstream = random_upstream(t)
            exact = run(
                hidden.double(), weight.double(), targets, upstream, proxy=MinP(0.1),
                backend="reference",
            )[1]  # fmt: skip
            for workspace_bytes in (v * 6, 1500, 1 << 20):
                stats, gradients = run(
                    hidden, weight, targets, upstream, proxy=MinP(0.1), backend=backend,
                    workspace_bytes=workspace_bytes,
                )  # fmt: skip
                assert torch.isfinite(stats.logprob).all()
                assert_gradients(gradients, exact, t)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_bitwise_equal_from_run_to_run(backend, dtype):
    t = 33 if backend == "triton" else 99
    hidden, weight, targets = peaked(t, 70, 8, dtype)
    logits = (hidden @ weight.T).detach()
    upstream = random_upstream(t)
    options = {"proxy": MinP(0.1), "backend": backend, "workspace_bytes": 3000}
    runs = []
    for _ in range(2):
        stats, gradients = run(hidden, weight, targets, upstream, **options)
        x = logits.clone().requires_grad_()
        of_logits = stats_from_logits(x, targets, want=STATISTICS, **options)
        weighted(of_logits, upstream).backward()
        leaves = [y.clone().requires_grad_() for y in (hidden, weight)]
        fused = fused_policy_loss(
            *leaves, targets, want=STATISTICS, **options,
            loss_fn=lambda s, rows: weighted(s, {k: u[rows] for k, u in upstream.items()}),
        )  # fmt: skip
        fused.loss.backward()
        formed = (y.grad for y in (*leaves, x))
        runs.append([*stats, *gradients, *of_logits, *fused.stats, fused.loss, *formed])
    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("workspace_bytes", [700, 1 << 20])
def test_caller_tensors_are_never_written(backend, dtype, workspace_bytes):
    t = 20 if backend == "triton" else 100
    hidden, weight, targets = peaked(t, 33, 8, dtype)
    temperature, mask = torch.linspace(0.5, 1.5, t), torch.arange(t) % 3 > 0
    logits, bias = hidden @ weight.T, torch.linspace(-1, 1, 33).to(dtype)
    upstream = torch.linspace(-1, 2, t)
    given = (hidden, weight, targets, temperature, mask, logits, bias, upstream)
    copies = [x.clone() for x in given]
    options = {"temperature": temperature, "row_mask": mask, "want": STATISTICS}
    options |= {"proxy": MinP(0.1), "backend": backend, "workspace_bytes": workspace_bytes}
    inputs = [x.requires_grad_() for x in (hidden, weight, logits, bias)]
    head = (*inputs[:2], targets)
    for stats in (
        token_stats(*head, bias=bias, **options),
        stats_from_logits(inputs[2], targets, softcap=20.0, **options),
    ):
        for x in (stats.logprob, stats.entropy, stats.lse, stats.log_kept_mass):
            x.backward(upstream, retain_graph=True)
    fused_policy_loss(
        *head,
        lambda s, rows: ((s.logprob + s.entropy) * upstream[rows]).sum(),
        bias=bias,
        **options,
    ).loss.backward()
    assert all(torch.equal(x, y) for x, y in zip(given, copies, strict=True))
