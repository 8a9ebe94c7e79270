"""Every kernel test runs with fresh memory poisoned and on every backend that works here."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch

from rlnorm.kernels.backends import resolve_backend

# the interpreted Triton kernels run the same tests in a process of their own
BACKENDS = os.environ.get("RLNORM_TEST_BACKENDS", "chunked,cpp").split(",")


def _poisoned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(*args: Any, **kwargs: Any) -> torch.Tensor:
        x = make(*args, **kwargs)
        if x.is_floating_point():
            x.fill_(torch.nan)
        return x

    return made


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", _poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", _poisoned(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", _poisoned(torch.Tensor.new_empty))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    try:
        resolve_backend(request.param, torch.device("cpu"), torch.float32)
    except RuntimeError as error:
        # a source that a compiler refuses is a failure, a machine without one is not
        if "no C++ compiler" not in str(error):
            raise
        pytest.skip(str(error))
    return str(request.param)


@pytest.fixture
def operands() -> Callable[..., tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Seeded hidden states [t, d], a head [v, d] and targets [t]."""

    def draw(t, v, d, dtype=torch.float32, seed=0):
        generator = torch.Generator().manual_seed(seed)
        hidden = torch.randn(t, d, generator=generator, dtype=torch.float64).to(dtype)
        weight = torch.randn(v, d, generator=generator, dtype=torch.float64).to(dtype)
        return hidden, weight, torch.randint(v, (t,), generator=generator)

    return draw
