from math import exp

import pytest
import torch

INDEX = torch.tensor([0, 0, 1, 1])


def test_gspo_has_one_ratio_per_rollout(run, close):
    # geometric means: sqrt(4 * 1) = 2, sqrt(0.5 * 0.5) = 0.5
    ratios = [4.0, 1.0, 0.5, 0.5]
    values, gradient, _ = run("gspo", ratios, [1, 1, 1, 1], clip_low=0.9, clip_high=9.0)
    close(values, [-2, -2, -0.5, -0.5])
    # each token moves both losses of its rollout by half
    close(gradient, [-2, -2, -0.5, -0.5])
    clipped, none, _ = run("gspo", ratios, [1, 1, -1, -1], clip_low=0.2, clip_high=0.3)
    close(clipped, [-1.3, -1.3, 0.8, 0.8])
    close(none, [0, 0, 0, 0])


@pytest.mark.parametrize("name", ["gspo", "gspo_token"])
def test_gspo_bounds_the_log_ratio_from_above(name, run, close):
    ratios = [exp(12.0)] * 2 + [exp(-12.0)] * 2
    values, gradient, _ = run(name, ratios, [-1, -1, -1, -1], clip_low=None, clip_high=None)
    close(values, [exp(10.0)] * 2 + [exp(-12.0)] * 2)
    close(gradient, [0, 0, exp(-12.0), exp(-12.0)])


def test_gspo_token_takes_each_tokens_own_gradient(run, close):
    values, gradient, _ = run(
        "gspo_token", [4.0, 1.0, 0.5, 0.5], [1, 3, 1, 1], clip_low=0.9, clip_high=9.0
    )
    close(values, [-2, -6, -0.5, -0.5])
    close(gradient, [-2, -6, -0.5, -0.5])
    sequence = run("gspo", [4.0, 1.0, 0.5, 0.5], [1, 3, 1, 1], clip_low=0.9, clip_high=9.0)[1]
    close(sequence, [-4, -4, -0.5, -0.5])


def test_gspo_bounds(run):
    with pytest.raises(ValueError, match=r"gspo: clip_high = -1\.0"):
        run("gspo", [1.0], [1.0], INDEX[:1], clip_high=-1.0)
