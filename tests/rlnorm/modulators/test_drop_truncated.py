import torch

from rlnorm.modulators.drop_truncated import drop_truncated
from rlnorm.types import Advantages

INDEX = torch.tensor([0, 0, 1, 2, 2])


# old - ref: 1 2 | -1 | 0.5 0.5
OLD = torch.tensor([-1.0, -1.0, -2.0, -1.0, -1.0], dtype=torch.float64)


EVERY = torch.tensor([True, True, True])


BASE = Advantages(torch.tensor([-1.0, -2.0, 3.0], dtype=torch.float64), EVERY)


def test_truncated_rollouts_do_not_train(close):
    truncated = torch.tensor([True, False, False])
    result = drop_truncated(BASE, truncated)
    close(result, [0, -2, 3])
    assert result.keep.tolist() == [False, True, True]
    close(drop_truncated(Advantages(OLD, EVERY, INDEX), truncated), [0, 0, -2, -1, -1])
    # one that was left out before stays out
    before = Advantages(BASE.values, torch.tensor([True, True, False]))
    assert drop_truncated(before, truncated).keep.tolist() == [False, True, False]
