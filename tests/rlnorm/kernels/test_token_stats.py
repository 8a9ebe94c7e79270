"""What token_stats promises beside accuracy: rows left out, memory, arguments, backends."""

import json
import logging
import math
import weakref
from pathlib import Path

import jaxtyping
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlnorm.kernels import MinP, backends, fused_policy_loss, stats_from_logits, token_stats

GOLDEN = Path(__file__).parents[4] / "shared" / "golden"


def operands(t, v, d, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(t, d, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(v, d, generator=generator, dtype=torch.float64).to(dtype)
    return hidden, weight, torch.randint(v, (t,), generator=generator)


class LiveBytes(TorchDispatchMode):
    """Bytes of tensors alive at once, of those that operations made while it was active."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {
            x.untyped_storage().data_ptr()
            for x in torch.utils._pytree.tree_leaves((args, kwargs))
            if isinstance(x, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for x in torch.utils._pytree.tree_leaves(out):
            if isinstance(x, torch.Tensor):
                self._follow(x.untyped_storage(), given)
        return out

    def _follow(self, storage, given):
        key = storage.data_ptr()
        if key in self._known or key in given or storage.nbytes() == 0:
            return
        self._known.add(key)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key, storage.nbytes())

    def _drop(self, key, nbytes):
        self._known.discard(key)
        self.live -= nbytes


def peak_bytes(run):
    with LiveBytes() as memory:
        run()
    return memory.peak


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_memory_is_the_workspace_and_the_gradients(backend, dtype):
    t, v, d, workspace = 512, 4096, 16, 1 << 19
    hidden, weight, targets = operands(t, v, d, dtype)
    hidden.requires_grad_(), weight.requires_grad_()
    logits = t * v * 4

    def ours():
        stats = token_stats(
            hidden, weight, targets, want=("logprob", "entropy"), backend=backend,
            workspace_bytes=workspace,
        )  # fmt: skip
        (stats.logprob + stats.entropy).sum().backward()

    def naive():
        logprobs = (hidden @ weight.T).float().log_softmax(dim=1)
        entropy = -(logprobs.exp() * logprobs).sum(dim=1)
        (logprobs.gather(1, targets[:, None])[:, 0] + entropy).sum().backward()

    gradients = (t * d + v * d) * 4
    # plain torch walks the rows in blocks of 2^18 elements, with a few temporaries of that size
    temporaries = 5 * (1 << 20) if backend == "chunked" else 0
    assert peak_bytes(ours) <= 2 * gradients + workspace * 2 + temporaries + 20 * t * 4
    assert peak_bytes(ours) < logits
    assert peak_bytes(naive) > 2 * logits  # the measurement sees what it should


def test_rows_left_out_do_not_reach_the_products(backend):
    """NaN in a masked row, or in one into which only zeros flow, must not reach the weight."""
    hidden, weight, targets = operands(9, 33, 8)
    hidden[2] = hidden[5] = torch.nan
    targets[2] = -100
    hidden.requires_grad_(), weight.requires_grad_()
    mask = torch.ones(9, dtype=torch.bool)
    mask[2] = False
    upstream = torch.ones(9)
    upstream[5] = 0
    stats = token_stats(
        hidden, weight, targets, row_mask=mask, want=("logprob", "entropy"), backend=backend
    )
    assert stats.logprob[2] == 0
    assert stats.entropy[2] == 0
    assert torch.isnan(stats.logprob[5])
    stats.logprob.backward(upstream)
    assert torch.isfinite(weight.grad).all()
    assert torch.equal(hidden.grad[[2, 5]], torch.zeros(2, 8))
    rest = [0, 1, 3, 4, 6, 7, 8]
    some = hidden.detach()[rest].requires_grad_()
    again = weight.detach().clone().requires_grad_()
    token_stats(some, again, targets[rest], backend=backend).logprob.sum().backward()
    torch.testing.assert_close(weight.grad, again.grad)
    torch.testing.assert_close(hidden.grad[rest], some.grad)


@pytest.mark.parametrize("all_masked", [True, False])
def test_backward_through_nothing_gives_zeros(backend, all_masked):
    hidden, weight, targets = operands(3, 5, 4)
    hidden.requires_grad_(), weight.requires_grad_()
    mask = torch.full((3,), not all_masked)
    stats = token_stats(hidden, weight, targets, row_mask=mask, backend=backend)
    (stats.logprob * (0.0 if not all_masked else 1.0)).sum().backward()
    assert torch.equal(hidden.grad, torch.zeros(3, 4))
    assert torch.equal(weight.grad, torch.zeros(5, 4))


def test_only_required_gradients_are_formed(backend):
    """A frozen head (LoRA) costs no [v, d] gradient."""
    hidden, weight, targets = operands(4, 3000, 64)
    hidden.requires_grad_()

    def frozen():
        stats = token_stats(hidden, weight, targets, backend=backend, workspace_bytes=1 << 14)
        stats.logprob.sum().backward()

    temporaries = 5 * (1 << 20) if backend == "chunked" else 0
    assert peak_bytes(frozen) < 3000 * 64 * 4 + temporaries
    frozen_grad = hidden.grad.clone()
    hidden.grad = None
    weight.requires_grad_()
    token_stats(hidden, weight, targets, backend=backend).logprob.sum().backward()
    assert (frozen_grad - hidden.grad).norm() <= 1e-5 * hidden.grad.norm()
    assert weight.grad is not None


def test_kept_logits_and_recomputed_ones_agree_when_backward_runs_twice(backend):
    hidden, weight, targets = operands(6, 9, 4)
    hidden.requires_grad_()
    loss = token_stats(hidden, weight, targets, backend=backend).logprob.sum()
    first = torch.autograd.grad(loss, hidden, retain_graph=True)[0]
    second = torch.autograd.grad(loss, hidden)[0]
    torch.testing.assert_close(first, second)


def test_operands_of_any_memory_layout(backend):
    hidden, weight, targets = operands(6, 11, 4)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        h, w = hidden.to(dtype), weight.to(dtype)
        straight = token_stats(h, w, targets, backend=backend).logprob
        h, w = h.T.contiguous().T, torch.cat([w, w], dim=1)[:, :4]
        torch.testing.assert_close(
            token_stats(h, w, targets, backend=backend).logprob, straight, rtol=1e-5, atol=1e-5
        )
        logits = (hidden @ weight.T).to(dtype)
        straight = stats_from_logits(logits, targets, backend=backend).logprob
        turned = logits.T.contiguous().T
        assert torch.equal(stats_from_logits(turned, targets, backend=backend).logprob, straight)


def test_padded_vocabulary(backend):
    hidden, weight, targets = operands(8, 40, 4)
    weight[33:] = 1e4  # padding must not be looked at
    targets %= 33
    weight.requires_grad_()
    padded = token_stats(hidden, weight, targets, vocab_size=33, backend=backend)
    padded.logprob.sum().backward()
    whole = weight.detach()[:33].clone().requires_grad_()
    exact = token_stats(hidden, whole, targets, backend=backend)
    exact.logprob.sum().backward()
    torch.testing.assert_close(padded.logprob, exact.logprob)
    torch.testing.assert_close(weight.grad[:33], whole.grad)
    assert torch.equal(weight.grad[33:], torch.zeros(7, 4))
    logits = (hidden @ weight.detach().T).requires_grad_()
    of_logits = stats_from_logits(logits, targets, vocab_size=33, backend=backend).logprob
    of_logits.sum().backward()
    torch.testing.assert_close(of_logits, exact.logprob)
    assert torch.equal(logits.grad[:, 33:], torch.zeros(8, 7))


def test_masked_rows_of_logits_may_hold_anything(backend):
    logits = torch.zeros(3, 4)
    logits[1] = math.nan
    logits.requires_grad_()
    stats = stats_from_logits(
        logits, torch.tensor([0, -100, 3]), want=("logprob", "entropy"), backend=backend,
        row_mask=torch.tensor([True, False, True]),
    )  # fmt: skip
    assert stats.logprob[1] == 0
    (stats.logprob + stats.entropy).sum().backward()
    quarter = torch.tensor([0.75, -0.25, -0.25, -0.25])
    torch.testing.assert_close(logits.grad, torch.stack([quarter, 0 * quarter, quarter.flip(0)]))


def test_more_than_65535_tokens_and_the_largest_vocabulary(backend):
    for t, v in ((65_537, 3), (2, 151_936)):
        hidden, weight, targets = operands(t, v, 4)
        got = token_stats(hidden, weight, targets, want=("logprob", "entropy"), backend=backend)
        want = token_stats(
            hidden[-2:], weight, targets[-2:], want=("logprob", "entropy"), backend="reference"
        )
        torch.testing.assert_close(got.logprob[-2:], want.logprob, rtol=0, atol=2e-5)
        torch.testing.assert_close(got.entropy[-2:], want.entropy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("workspace_bytes", [300, 1 << 20])
def test_gradcheck_in_float64(workspace_bytes):
    hidden, weight, targets = operands(4, 7, 3, torch.float64)
    hidden.requires_grad_(), weight.requires_grad_()
    bias = torch.linspace(-1, 1, 7, dtype=torch.float64).requires_grad_()

    def statistics(hidden, weight, bias):
        stats = token_stats(
            hidden, weight, targets, temperature=0.7, bias=bias, softcap=5.0, proxy=MinP(0.01),
            want=("logprob", "entropy", "lse", "log_kept_mass", "proxy_logprob"),
            backend="chunked", workspace_bytes=workspace_bytes,
        )  # fmt: skip
        # a dropped target is -inf, which finite differences cannot follow
        finite = (x.where(torch.isfinite(x.detach()), 0.0) for x in stats if x is not None)
        return tuple(finite)

    inputs = (hidden, weight, bias)
    assert torch.autograd.gradcheck(statistics, inputs, eps=1e-5, atol=1e-9, rtol=1e-9)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not at hand")
def test_golden_statistics(backend):
    decode = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    names = {
        "logprob": "log_prob", "entropy": "entropy", "lse": "logsumexp",
        "proxy_logprob": "proxy_log_prob", "sum_p2": "sum_p_squared",
    }  # fmt: skip
    for case in json.loads((GOLDEN / "vocab_stats.json").read_text())["cases"]:
        logits = torch.tensor(case["inputs"]["logits"])
        stats = stats_from_logits(
            logits, torch.tensor(case["inputs"]["tokens"]), want=tuple(names), backend=backend,
            proxy=MinP(case["params"]["kappa"]),
        )  # fmt: skip
        for ours, theirs in names.items():
            expected = torch.tensor([decode.get(x, x) for x in case["expected"][theirs]])
            torch.testing.assert_close(getattr(stats, ours), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden files are not at hand")
def test_golden_proxy_of_the_authors(backend):
    """The authors give a dropped target about -1e4; here it is -inf."""
    cases = json.loads((GOLDEN / "lp_reg.json").read_text())["cases"]
    proxies = [case for case in cases if case["name"].startswith("proxy__")]
    assert proxies
    for case in proxies:
        logits = torch.tensor(case["inputs"]["logits"], dtype=torch.float32).flatten(0, 1)
        stats = stats_from_logits(
            logits, torch.tensor(case["inputs"]["tokens"]).flatten(), backend=backend,
            want=("logprob", "proxy_logprob"), proxy=MinP(case["params"]["kappa"], "raw"),
        )  # fmt: skip
        expected = torch.tensor(case["expected"]["proxy_log_prob"]).flatten()
        expected = expected.where(expected > -9000, -math.inf)
        torch.testing.assert_close(stats.proxy_logprob, expected, rtol=1e-5, atol=1e-5)
        logprob = torch.tensor(case["expected"]["log_prob"]).flatten()
        torch.testing.assert_close(stats.logprob, logprob, rtol=1e-5, atol=1e-5)


BAD = {
    "targets": [
        {"targets": torch.tensor([0, 5, 1])}, {"targets": torch.tensor([0, -1, 1])},
        {"targets": torch.tensor([0, 1])}, {"targets": torch.tensor([0.0, 1.0, 1.0])},
    ],
    "temperature": [
        {"temperature": 0.0}, {"temperature": -1.0}, {"temperature": math.nan},
        {"temperature": math.inf}, {"temperature": torch.ones(2)},
        {"temperature": torch.tensor([1.0, 0.0, 1.0])},
        {"temperature": torch.tensor([1.0, math.nan, 1.0])},
    ],
    "hidden": [{"hidden": torch.zeros(0, 4), "targets": torch.zeros(0, dtype=torch.long)}],
    "weight": [{"weight": torch.zeros(5, 3)}, {"weight": torch.zeros(5, 4, dtype=torch.float64)}],
    "bias": [{"bias": torch.zeros(4)}],
    "row_mask": [{"row_mask": torch.ones(2, dtype=torch.bool)}],
    "want": [{"want": ("logprobs",)}, {"want": ()}, {"want": "logprob"}],
    "proxy": [{"want": ("log_kept_mass",)}],
    "softcap": [{"softcap": 0.0}],
    "vocab_size": [{"vocab_size": 6}],
    "vocab_start": [{"vocab_start": 1}],
    "workspace_bytes": [{"workspace_bytes": 0}],
    "backend": [{"backend": "cuda"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, changes in BAD.items() for change in changes]
)
def test_bad_arguments_are_named(name, change):
    """The run-time shape checker of the test suite may be the first to say so."""
    hidden, weight, _ = operands(3, 5, 4)
    arguments = {"hidden": hidden, "weight": weight, "targets": torch.tensor([0, 4, 1])}
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=name):
        token_stats(**(arguments | change))
    with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=name):
        fused_policy_loss(loss_fn=lambda stats, rows: stats.logprob.sum(), **(arguments | change))
    if not change.keys() & {"hidden", "weight", "bias"}:
        logits = {"logits": torch.zeros(3, 5), "targets": arguments["targets"]}
        with pytest.raises((ValueError, jaxtyping.TypeCheckError), match=name):
            stats_from_logits(**(logits | change))


def test_a_misspelt_argument_is_refused():
    hidden, weight, targets = operands(3, 5, 4)
    for call in (
        lambda **options: token_stats(hidden, weight, targets, **options),
        lambda **options: stats_from_logits(hidden @ weight.T, targets, **options),
        lambda **options: fused_policy_loss(hidden, weight, targets, torch.sum, **options),
    ):
        with pytest.raises(TypeError, match="temprature"):
            call(temprature=1.0)


@pytest.mark.parametrize("kappa", [0.0, -0.1, 1.5, math.nan])
def test_proxy_threshold_outside_its_range(kappa):
    with pytest.raises(ValueError, match=r"kappa.*\(0, 1\]"):
        MinP(kappa)
    with pytest.raises(ValueError, match="threshold_on = 'logits'"):
        MinP(0.5, "logits")


def test_backends_that_cannot_serve_say_why():
    hidden, weight, targets = operands(3, 5, 4, torch.float64)
    with pytest.raises(ValueError, match="float64"):
        token_stats(hidden, weight, targets, backend="cpp")
    with pytest.raises((ValueError, RuntimeError), match="triton"):
        token_stats(hidden.float(), weight.float(), targets, backend="triton")
    with pytest.raises(ValueError, match=r"'cpp'.* on cpu, got cuda"):
        backends.resolve_backend("cpp", torch.device("cuda"), torch.float32)
    with pytest.raises(ValueError, match="'reference'"):
        fused_policy_loss(hidden, weight, targets, torch.sum, backend="reference")


def test_auto_logs_once_what_it_took(caplog):
    backends._automatic.cache_clear()
    hidden, weight, targets = operands(3, 5, 4)
    with caplog.at_level(logging.INFO, logger="rlnorm.kernels"):
        token_stats(hidden, weight, targets)
        token_stats(hidden, weight, targets)
    lines = [x for x in caplog.messages if "auto takes" in x]
    assert len(lines) == 1
    assert "float32 on cpu" in lines[0]


def test_auto_falls_back_to_plain_torch_without_a_compiler(monkeypatch, tmp_path, caplog):
    from rlnorm.kernels import cpu

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    for cached in (cpu.library, backends._named, backends._automatic):
        cached.cache_clear()
    try:
        hidden, weight, targets = operands(3, 5, 4)
        with caplog.at_level(logging.INFO, logger="rlnorm.kernels"):
            token_stats(hidden, weight, targets)
        assert "'chunked'" in caplog.text
        assert "no C++ compiler" in caplog.text
        with pytest.raises(RuntimeError, match="no C\\+\\+ compiler"):
            token_stats(hidden, weight, targets, backend="cpp")
    finally:
        for cached in (cpu.library, backends._named, backends._automatic):
            cached.cache_clear()
