import pytest
import torch


@pytest.fixture
def close():
    def compare(got, want):
        want = torch.as_tensor(want, dtype=torch.float64)
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)

    return compare
