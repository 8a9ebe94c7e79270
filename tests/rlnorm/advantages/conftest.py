"""A batch with a group of three, a group of two and a rollout alone, and how results compare."""

import pytest
import torch

NAN = float("nan")


@pytest.fixture
def groups():
    return torch.tensor([0, 1, 0, 0, 1, 2])


@pytest.fixture
def rewards():
    """Group 0: 1, 0, 5; group 1: 3, 7; group 2: 9 alone."""
    return torch.tensor([1.0, 3.0, 0.0, 5.0, 7.0, 9.0], dtype=torch.float64)[:, None]


@pytest.fixture
def masked():
    """The same without a reward for the 5 and the 9."""
    return torch.tensor([1.0, 3.0, 0.0, NAN, 7.0, NAN], dtype=torch.float64)[:, None]


@pytest.fixture
def close():
    """Compares advantages, a tensor or the values of a result, with numbers."""

    def compare(got, want):
        got = got if isinstance(got, torch.Tensor) else got.values
        want = torch.as_tensor(want, dtype=torch.float64)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)

    return compare
