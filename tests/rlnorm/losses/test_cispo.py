import pytest
import torch

INDEX = torch.tensor([0, 0, 1, 1])


def test_cispo_clips_a_constant_weight(run, close):
    values, gradient, result = run(
        "cispo", [9.0, 2.0, 0.25], [1.0, -1.0, 1.0], INDEX[:3], is_cap=3.0, is_floor=0.5
    )
    close(values, [6, -4, 1])  # logprob -2: -w A lp
    close(gradient, [-3, 2, -0.5])
    assert result.clipped.tolist() == [True, False, True]


def test_cispo_bounds(run):
    with pytest.raises(ValueError, match=r"is_cap = 1.0, needs is_floor = 2.0 or more"):
        run("cispo", [1.0], [1.0], INDEX[:1], is_cap=1.0, is_floor=2.0)
