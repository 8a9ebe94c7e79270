import torch

from rlnorm.advantages.combinators import mixed, per_component, whiten
from rlnorm.advantages.reinforce import reinforce


def test_combinators():
    table = torch.tensor([[1.0, 0.0], [3.0, float("nan")], [0.0, 4.0]], dtype=torch.float64)
    parts = per_component(reinforce, table, torch.tensor([0, 0, 0]))
    want = torch.tensor([[-1 / 3, -2.0], [5 / 3, 9.0], [-4 / 3, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(parts.nan_to_num(9.0), want)
    assert mixed(torch.tensor([1.0]), torch.tensor([2.0]), alpha=3.0, beta=5.0).tolist() == [13]


def test_whiten_inside_and_beside_the_root():
    values = torch.tensor([1.0, 3.0, float("nan")], dtype=torch.float64)
    # unbiased variance 2
    assert whiten(values, eps=1.0)[:2].tolist() == [-1 / (2**0.5 + 1), 1 / (2**0.5 + 1)]
    inside = whiten(values, eps=2.0, eps_inside=True)
    assert inside[:2].tolist() == [-0.5, 0.5]
    counted = whiten(values, eps=0.0, count_eps=2.0)
    # mean 4 / 4, squares 0 + 4, over 4, times 2 / 1
    torch.testing.assert_close(counted[:2], torch.tensor([0.0, 2 / 2**0.5]).double())
    assert whiten(values, eps=0.0, ddof=0, centre=False)[:2].tolist() == [1, 3]
