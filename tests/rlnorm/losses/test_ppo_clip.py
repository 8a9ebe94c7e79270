from math import exp

import pytest
import torch

INDEX = torch.tensor([0, 0, 1, 1])


def test_ppo_clip_holds_back_what_it_should(run, close):
    # rho above, inside, below the bounds for A > 0, and below, above for A < 0
    values, gradient, result = run(
        "ppo_clip",
        [1.5, 1.1, 0.5, 0.5, 1.5],
        [2.0, 2.0, 2.0, -2.0, -2.0],
        index=torch.zeros(5, dtype=torch.long),
        clip_low=0.2,
        clip_high=0.3,
    )
    close(values, [-2.6, -2.2, -1.0, 1.6, 3.0])
    close(gradient, [0, -2.2, -1.0, 0, 3.0])
    assert result.clipped.tolist() == [True, False, False, True, False]


def test_dual_clip_and_ratio_cap(run, close):
    values, gradient, result = run("ppo_clip", [4.0, 2.0], [-1.0, -1.0], INDEX[:2], dual_clip=3.0)
    close(values, [3, 2])
    close(gradient, [0, 2])
    assert result.clipped_low.tolist() == [True, False]
    values, gradient, _ = run("ppo_clip", [4.0, 2.0], [-1.0, -1.0], INDEX[:2], ratio_cap=2.5)
    close(values, [2.5, 2])
    close(gradient, [0, 2])


def test_without_bounds_it_is_the_weighted_policy_gradient(run, close):
    values, gradient, _ = run("ppo_clip", [4.0], [-1.5], INDEX[:1], clip_low=None, clip_high=None)
    close(values, [6])
    close(gradient, [6])
    far, none, _ = run("ppo_clip", [exp(30)], [-1.0], INDEX[:1], clip_low=None, clip_high=None)
    close(far, [exp(20)])
    close(none, [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_low": -0.1}, "clip_low = -0.1, needs 0 or more"),
        ({"dual_clip": 1.0}, "dual_clip = 1.0, needs more than 1"),
    ],
)
def test_ppo_clip_bounds(options, message, run):
    with pytest.raises(ValueError, match=message):
        run("ppo_clip", [1.0], [1.0], INDEX[:1], **options)
