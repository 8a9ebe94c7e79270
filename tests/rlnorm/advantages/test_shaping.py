import pytest
import torch

from rlnorm.advantages.shaping import conditioned, overlong, overlong_penalty


def test_overlong_grows_linearly_within_the_cache():
    lengths = torch.tensor([10, 16, 18, 20, 22])
    paper = overlong_penalty(lengths, max_length=20, cache=4)
    assert paper.tolist() == [0, 0, -0.5, -1, -1]
    verl = overlong_penalty(lengths, max_length=20, cache=4, penalty_factor=2.0)
    assert verl.tolist() == [0, 0, -1, -2, -3]
    shaped = overlong(torch.ones(5, 2), lengths, max_length=20, cache=4, column=1)
    assert shaped.tolist() == [[1, 1], [1, 1], [1, 0.5], [1, 0], [1, 0]]
    shaped = overlong(torch.ones(5, 1), lengths, max_length=20, cache=4, penalty_factor=0.5)
    assert shaped[:, 0].tolist() == [1, 1, 0.75, 0.5, 0.25]
    with pytest.raises(ValueError, match=r"cache = 0, needs a value in \[1, max_length 20\]"):
        overlong_penalty(lengths, max_length=20, cache=0)


def test_the_easy_reward_counts_once_the_hard_one_is_reached():
    table = torch.tensor([[1.0, 0.4], [1.0, 0.5], [1.0, float("nan")]])
    got = conditioned(table, easy=0, hard=1, threshold=0.5)
    assert got[:, 0].nan_to_num(-9.0).tolist() == [0, 1, -9]
    assert table[0, 0] == 1.0
    with pytest.raises(ValueError, match=r"hard = 2, needs a column in \[0, 1\]"):
        conditioned(table, easy=0, hard=2, threshold=0.5)
