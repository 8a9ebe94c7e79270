import pytest
import torch

from rlnorm.kernels import MinP, token_stats


@pytest.mark.parametrize("all_masked", [True, False])
def test_backward_through_nothing_gives_zeros(backend, all_masked, operands):
    hidden, weight, targets = operands(3, 5, 4)
    hidden.requires_grad_(), weight.requires_grad_()
    mask = torch.full((3,), not all_masked)
    stats = token_stats(hidden, weight, targets, row_mask=mask, backend=backend)
    (stats.logprob * (0.0 if not all_masked else 1.0)).sum().backward()
    assert torch.equal(hidden.grad, torch.zeros(3, 4))
    assert torch.equal(weight.grad, torch.zeros(5, 4))


def test_kept_logits_and_recomputed_ones_agree_when_backward_runs_twice(backend, operands):
    hidden, weight, targets = operands(6, 9, 4)
    hidden.requires_grad_()
    loss = token_stats(hidden, weight, targets, backend=backend).logprob.sum()
    first = torch.autograd.grad(loss, hidden, retain_graph=True)[0]
    second = torch.autograd.grad(loss, hidden)[0]
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("workspace_bytes", [300, 1 << 20])
def test_gradcheck_in_float64(workspace_bytes, operands):
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
