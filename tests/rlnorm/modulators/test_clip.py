import pytest
import torch

from rlnorm.modulators.clip import clip
from rlnorm.types import Advantages

EVERY = torch.tensor([True, True, True])


BASE = Advantages(torch.tensor([-1.0, -2.0, 3.0], dtype=torch.float64), EVERY)


def test_clip_keeps_zero(close):
    wide = Advantages(torch.tensor([-9.0, 0.0, 9.0]).double(), EVERY)
    close(clip(wide, low=-1.0, high=2.0), [-1, 0, 2])
    with pytest.raises(ValueError, match="needs low <= 0 <= high"):
        clip(BASE, low=1.0)
