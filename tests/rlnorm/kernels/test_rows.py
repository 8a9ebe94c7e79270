from math import log

import torch

from rlnorm.kernels.rows import RowInputs, RowScalars, TorchRows, scaled


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


# e^z: 4 2 1; peak log 4, so that the others are 1/2 and 1/4 of it
Z = doubles([log(4), log(2), 0.0])
INPUTS = RowInputs(torch.tensor([1]), doubles(1.0), None)


def test_sums_are_relative_to_the_largest():
    got = TorchRows().statistics(Z, INPUTS, entropy=True, squares=True)
    torch.testing.assert_close(got.peak, doubles(log(4)))
    torch.testing.assert_close(got.rest, doubles(3 / 4))
    torch.testing.assert_close(got.centred, doubles(0.5 * log(1 / 2) + 0.25 * log(1 / 4)))
    torch.testing.assert_close(got.squares, doubles(1 + 1 / 4 + 1 / 16))
    torch.testing.assert_close(got.target, doubles(log(2)))


def test_a_target_in_another_block_is_not_here():
    elsewhere = INPUTS._replace(targets=torch.tensor([3]))
    got = TorchRows().statistics(Z, elsewhere, entropy=False, squares=False)
    assert got.target.item() == -torch.inf


def test_mass_at_and_below_the_threshold():
    kept, dropped = TorchRows().kept_mass(Z, INPUTS, doubles(log(4)), doubles(log(0.4)))
    torch.testing.assert_close(kept, doubles(1.5))
    torch.testing.assert_close(dropped, doubles(0.25))


def test_the_gradient_is_the_coefficient_times_the_probability():
    # p = 4/7, 2/7, 1/7; -1 times p, and what is given for the target
    scalars = RowScalars(doubles(log(4)), doubles(log(7 / 4)), doubles(-1.0), doubles(5 / 7))
    out = torch.empty_like(Z)
    TorchRows().gradient(Z, INPUTS, scalars, out)
    torch.testing.assert_close(out, doubles([-4 / 7, 5 / 7, -1 / 7]))


def test_the_softcap_comes_before_the_temperature():
    # 2 tanh(log 3 / 2 * 2 / 2) with tanh(log 3 / 2) = (3 - 1) / (3 + 1); times 3
    got = scaled(doubles([log(3)]), doubles(3.0), 2.0)
    torch.testing.assert_close(got, doubles([3.0]))
