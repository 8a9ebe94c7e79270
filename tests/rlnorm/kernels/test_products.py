"""What is multiplied and what is held: in units of one product of the head, 2 t d v operations."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlnorm.kernels import fused_policy_loss, token_stats

T, V, D = 96, 250, 8


class Operations(TorchDispatchMode):
    """Operations of torch's matrix products, and the largest float tensor any call returned."""

    def __init__(self):
        super().__init__()
        self.count = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            x, y = args[-2:]
            self.count += 2 * x.shape[0] * x.shape[1] * y.shape[1]
        if isinstance(out, torch.Tensor) and out.is_floating_point():
            self.largest = max(self.largest, out.numel())
        return out

    @property
    def products(self):
        return self.count / (2 * T * V * D)


@pytest.fixture
def head():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(T, D, generator=generator).requires_grad_()
    weight = torch.randn(V, D, generator=generator).requires_grad_()
    return hidden, weight, torch.randint(V, (T,), generator=generator)


def stats_and_backward(head, upstream=None, **options):
    stats = token_stats(*head, want=("logprob", "entropy"), **options)
    (stats.logprob + stats.entropy).backward(torch.ones(T) if upstream is None else upstream)


def fused_and_backward(head, **options):
    loss = fused_policy_loss(
        *head, lambda s, rows: (s.logprob + s.entropy).sum(), want=("logprob", "entropy"), **options
    ).loss
    if loss.requires_grad:
        loss.backward()


HALF = torch.arange(T) % 2 == 0


@pytest.mark.parametrize(
    ("call", "options", "products"),
    [
        (stats_and_backward, {}, 4),
        (stats_and_backward, {"row_mask": HALF}, 2),
        (stats_and_backward, {"upstream": HALF.float()}, 1 + 3 / 2),
        (stats_and_backward, {"upstream": torch.zeros(T)}, 1),
        (stats_and_backward, {"workspace_bytes": 1 << 20}, 3),
        (fused_and_backward, {}, 3),
        (fused_and_backward, {"row_mask": HALF}, 3 / 2),
    ],
    ids=["recompute", "masked", "zero upstream", "all zero", "kept", "callback", "masked callback"],
)
def test_products_executed(backend, head, call, options, products):
    with Operations() as operations:
        call(head, **{"backend": backend, "workspace_bytes": 16_000} | options)
    assert operations.products == pytest.approx(products)
    if options.get("workspace_bytes") is None:
        assert operations.largest < T * V / 2


@pytest.mark.parametrize("call", [stats_and_backward, fused_and_backward])
@pytest.mark.parametrize(("frozen", "saved"), [("hidden", 1), ("weight", 1)])
def test_a_frozen_operand_costs_no_product(backend, head, call, frozen, saved):
    head[0 if frozen == "hidden" else 1].requires_grad_(False)
    with Operations() as operations:
        call(head, backend=backend, workspace_bytes=16_000)
    assert operations.products == pytest.approx((4 if call is stats_and_backward else 3) - saved)


def test_no_gradient_is_formed_where_none_is_recorded(backend, head):
    with torch.no_grad(), Operations() as operations:
        fused_and_backward(head, backend=backend, workspace_bytes=16_000)
        token_stats(*head, backend=backend, workspace_bytes=16_000)
    assert operations.products == pytest.approx(2)
