import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rlnorm.kernels import token_stats


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
def test_memory_is_the_workspace_and_the_gradients(backend, dtype, operands):
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


def test_only_required_gradients_are_formed(backend, operands):
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
