"""Callback mode against the general path and the float64 definition."""

import pytest
import torch

from rlnorm.kernels import MinP, fused_policy_loss, token_stats
from rlnorm.kernels.chunked import FEW_ROWS

T, V, D = 40, 61, 6
WANT = ("logprob", "entropy", "log_kept_mass", "proxy_logprob")


def problem(dtype=torch.float64, t=T):
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(t, D, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(V, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(V, (t,), generator=generator)
    advantages = torch.randn(t, generator=generator, dtype=torch.float64)
    mask = torch.arange(t) % 5 > 0
    hidden[~mask] = torch.nan  # masked rows must not be looked at
    return [hidden, weight, bias], targets, advantages, mask


def plain_head():
    (hidden, weight, _), targets, _, _ = problem(torch.float32)
    return hidden.nan_to_num(), weight, targets


def surrogate(advantages):
    def loss(stats, rows):
        ratio = stats.logprob.double().exp() * 30
        gain = torch.minimum(ratio * advantages[rows], ratio.clamp(0.8, 1.2) * advantages[rows])
        kept = torch.isfinite(stats.proxy_logprob.detach())
        proxy = stats.proxy_logprob.double().where(kept, 0.0)
        return (gain + 0.1 * stats.entropy - 0.3 * stats.log_kept_mass + 0.05 * proxy).sum()

    return loss


@pytest.mark.parametrize("workspace_bytes", [None, 6000])
@pytest.mark.parametrize("t", [T, 4 * FEW_ROWS])
@pytest.mark.parametrize(
    ("dtype", "bar"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-3)]
)
def test_loss_and_gradients_match_the_definition(backend, dtype, bar, t, workspace_bytes):
    if dtype == torch.float64 and backend != "chunked":
        pytest.skip("float64 is served by chunked")
    inputs, targets, advantages, mask = problem(dtype, t)
    options = {"temperature": torch.linspace(0.7, 1.2, t), "want": WANT, "proxy": MinP(0.1)}
    options["softcap"] = 8.0
    exact = [x.double().requires_grad_() for x in inputs]
    stats = token_stats(
        *exact[:2], targets, bias=exact[2], row_mask=mask, backend="reference", **options
    )
    rows = mask.nonzero()[:, 0]
    want = surrogate(advantages)(
        type(stats)(*(None if x is None else x[rows] for x in stats)), rows
    )
    want_grads = torch.autograd.grad(2.5 * want, exact)
    ours = [x.requires_grad_() for x in inputs]
    got = fused_policy_loss(
        *ours[:2], targets, surrogate(advantages), bias=ours[2], row_mask=mask, backend=backend,
        workspace_bytes=workspace_bytes, **options,
    )  # fmt: skip
    got_grads = torch.autograd.grad(2.5 * got.loss, ours)
    torch.testing.assert_close(got.loss.double(), want.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.stats.entropy.double(), stats.entropy, rtol=1e-5, atol=1e-6)
    assert not got.stats.logprob.requires_grad
    for gradient, expected in zip(got_grads, want_grads, strict=True):
        assert (gradient.double() - expected).norm() <= bar * expected.norm()
        # of few rows, and of a bias, nothing is lost but one rounding: not even by the scale of 2.5
        if gradient.dim() == 1 or mask.sum() <= FEW_ROWS:
            best = (expected.to(dtype) - expected).norm() + 1e-5 * expected.norm()
            assert (gradient.double() - expected).norm() <= best


def test_second_item_of_the_callback_is_handed_back_per_chunk(backend):
    hidden, weight, targets = plain_head()
    got = fused_policy_loss(
        hidden, weight, targets, lambda stats, rows: (stats.logprob.sum(), rows.tolist()),
        backend=backend, workspace_bytes=V * 4 * 16,
    )  # fmt: skip
    assert len(got.aux) > 1
    assert [row for chunk in got.aux for row in chunk] == list(range(T))


def test_another_differentiable_tensor_is_refused(backend):
    hidden, weight, targets = plain_head()
    other = torch.ones((), requires_grad=True)
    with pytest.raises(ValueError, match="loss_fn uses a differentiable tensor"):
        fused_policy_loss(
            hidden.requires_grad_(), weight, targets,
            lambda stats, rows: (stats.logprob * other).sum(), backend=backend,
        )  # fmt: skip


def test_a_loss_that_is_no_scalar_is_refused(backend):
    hidden, weight, targets = plain_head()
    for loss_fn in (lambda stats, rows: stats.logprob, lambda stats, rows: 1.0):
        with pytest.raises(ValueError, match="loss_fn returned"):
            fused_policy_loss(hidden, weight, targets, loss_fn, backend=backend)


def test_backward_runs_once(backend):
    hidden, weight, targets = plain_head()
    loss = fused_policy_loss(
        hidden.requires_grad_(), weight, targets, lambda stats, rows: stats.logprob.sum(),
        backend=backend,
    ).loss  # fmt: skip
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward already ran"):
        loss.backward()


def test_a_constant_loss_and_an_empty_mask_give_zero_gradients(backend):
    hidden, weight, targets = plain_head()
    hidden.requires_grad_()
    for mask, scale in ((None, 0.0), (torch.zeros(T, dtype=torch.bool), 1.0)):
        hidden.grad = None
        fused_policy_loss(
            hidden, weight, targets, lambda stats, rows, s=scale: (s * stats.logprob).sum(),
            row_mask=mask, backend=backend,
        ).loss.backward()  # fmt: skip
        assert torch.equal(hidden.grad, torch.zeros(T, D))
