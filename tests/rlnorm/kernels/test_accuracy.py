"""Every backend against the float64 definition, in value and gradient.

Also run with the interpreted Triton kernels by test_triton_backend.py, hence the small sizes.
"""

import math

import pytest
import torch

from rlnorm.kernels import DIFFERENTIABLE, STATISTICS, MinP, stats_from_logits, token_stats

# no tile divides them
SIZES = [(1, 1, 4), (1, 127, 4), (127, 1, 4), (127, 129, 8), (129, 257, 16), (3, 32003, 6)]


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
    total = torch.zeros((), dtype=torch.float64)
    for name, weights in upstream.items():
        x = getattr(stats, name).double()
        total = total + (x.where(torch.isfinite(x), 0.0) * weights).sum()
    return total


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
    # in a single row the two roundings of up to 2^-8 do not average out
    bar = 1e-5 if dtype == torch.float32 else 3e-3 if t > 1 else 2 * 2**-8
    for gradient, expected in zip(got_grads, want_grads, strict=True):
        # with v = 1 every statistic is constant but lse, whose gradient is not 0
        assert relative(gradient, expected) <= bar


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
    for gradient, expected in zip(got_grads, want_grads, strict=True):
        assert relative(gradient, expected) <= 1e-5


@pytest.mark.parametrize("shift", [-100.0, -1000.0, 1000.0])
def test_shifted_logits(backend, shift):
    """Padding counted as logit 0, or a maximum that starts at 0, would show here."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(33, 129, generator=generator) + shift
    targets = torch.randint(129, (33,), generator=generator)
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
    assert relative(got_grad, want_grad) <= 1e-5


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


def test_many_chunks_agree_with_one(backend):
    """t < v slices the vocabulary in backward, t >= v the tokens; no sum is rounded per chunk."""
    for t, v in ((17, 70), (30, 20)):
        for dtype, bar in ((torch.float32, 1e-5), (torch.bfloat16, 3e-3)):
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
                for got, want in zip(gradients, exact, strict=True):
                    assert relative(got, want) <= bar


def test_bitwise_equal_from_run_to_run(backend):
    hidden, weight, targets = peaked(33, 70, 8, torch.float32)
    upstream = random_upstream(33)
    options = {"proxy": MinP(0.1), "backend": backend, "workspace_bytes": 3000}
    first, first_grads = run(hidden, weight, targets, upstream, **options)
    again, again_grads = run(hidden, weight, targets, upstream, **options)
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(first_grads, again_grads, strict=True))


def test_caller_tensors_are_never_written(backend):
    hidden, weight, targets = peaked(20, 33, 8, torch.float32)
    temperature, mask = torch.linspace(0.5, 1.5, 20), torch.arange(20) % 3 > 0
    logits = hidden @ weight.T
    given = (hidden, weight, targets, temperature, mask, logits)
    copies = [x.clone() for x in given]
    options = {"temperature": temperature, "row_mask": mask, "want": STATISTICS}
    options |= {"proxy": MinP(0.1), "backend": backend}
    inputs = [x.requires_grad_() for x in (hidden, weight, logits)]
    upstream = random_upstream(20)
    weighted(token_stats(*inputs[:2], targets, **options), upstream).backward()
    weighted(stats_from_logits(inputs[2], targets, **options), upstream).backward()
    assert all(torch.equal(x, y) for x, y in zip(given, copies, strict=True))
