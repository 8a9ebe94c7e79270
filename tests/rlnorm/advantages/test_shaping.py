import pytest
import torch

from rlnorm.advantages.combinators import mixed, per_component, whiten
from rlnorm.advantages.reinforce import reinforce
from rlnorm.advantages.shaping import conditioned, overlong, overlong_penalty


def test_overlong_grows_linearly_within_the_cache():
    lengths = torch.tensor([10, 16, 18, 20, 22])
    got = overlong_penalty(lengths, max_length=20, cache=4, penalty=2.0)
    assert got.tolist() == [0, 0, -1, -2, -2]
    open_ended = overlong_penalty(lengths, max_length=20, cache=4, capped=False)
    assert open_ended.tolist() == [0, 0, -0.5, -1, -1.5]
    shaped = overlong(torch.ones(5, 2), lengths, max_length=20, cache=4, column=1)
    assert shaped.tolist() == [[1, 1], [1, 1], [1, 0.5], [1, 0], [1, 0]]
    with pytest.raises(ValueError, match=r"cache = 0, needs a value in \[1, max_length 20\]"):
        overlong_penalty(lengths, max_length=20, cache=0)


def test_the_easy_reward_counts_once_the_hard_one_is_reached():
    table = torch.tensor([[1.0, 0.4], [1.0, 0.5], [1.0, float("nan")]])
    got = conditioned(table, easy=0, hard=1, threshold=0.5)
    assert got[:, 0].nan_to_num(-9.0).tolist() == [0, 1, -9]
    assert table[0, 0] == 1.0
    with pytest.raises(ValueError, match=r"hard = 2, needs a column in \[0, 1\]"):
        conditioned(table, easy=0, hard=2, threshold=0.5)


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
