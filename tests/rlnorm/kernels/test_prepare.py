import math

import torch

from rlnorm.kernels import stats_from_logits, token_stats


def test_rows_left_out_do_not_reach_the_products(backend, operands):
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


def test_padded_vocabulary(backend, operands):
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
