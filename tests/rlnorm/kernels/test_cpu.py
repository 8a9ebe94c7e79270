from math import log

import pytest
import torch

from rlnorm.kernels.rows import RowInputs

pytestmark = pytest.mark.parametrize("backend", ["cpp"], indirect=True)


@pytest.fixture
def cpu(backend):
    """The compiled module, where it builds."""
    from rlnorm.kernels import cpu

    return cpu


def test_compiled_rows_by_hand(cpu):
    # e^z: 4 2 1
    z = torch.tensor([[log(4), log(2), 0.0]])
    inputs = RowInputs(torch.tensor([1]), torch.ones(1), None)
    got = cpu.CppRows().statistics(z, inputs, entropy=True, squares=True)
    torch.testing.assert_close(got.rest, torch.tensor([3 / 4]))
    torch.testing.assert_close(got.squares, torch.tensor([1 + 1 / 4 + 1 / 16]))
    torch.testing.assert_close(got.target, torch.tensor([log(2)]))


def test_products_are_summed_in_float32(cpu):
    # 256 + 1 is no bfloat16
    h = torch.tensor([[256.0, 1.0]], dtype=torch.bfloat16)
    products, out = cpu.CppProducts(), torch.zeros(1, 1)
    one = torch.ones(1, 2, dtype=torch.bfloat16)
    products.logits(products.operand(h), products.operand(one), out)
    assert out.item() == 257.0


def test_the_library_is_named_after_its_compiler_and_flags(cpu):
    assert cpu._fingerprint(["g++", "-O3"]) == cpu._fingerprint(["g++", "-O3"])
    assert cpu._fingerprint(["g++", "-O3"]) != cpu._fingerprint(["g++", "-O2"])
