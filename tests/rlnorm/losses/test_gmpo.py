from math import log

import torch

INDEX = torch.tensor([0, 0, 1, 1])


def test_gmpo_is_a_geometric_mean_of_clipped_ratios(run, close):
    ratios = [4.0, 1.0, 0.25, 1.0]
    up = log(2.0)
    values, gradient, _ = run(
        "gmpo", ratios, [1.0, 3.0, -1.0, -1.0], clip_low=up, clip_high=up, eps=0.0
    )
    # rollout 0: log ratios clipped to log 2, 0; mean advantage 2. rollout 1: to -log 2, 0; -1
    close(values, [-2 * 2**0.5] * 2 + [0.5**0.5] * 2)
    close(gradient, [0, -2 * 2**0.5, 0, 0.5**0.5])
    eps = run("gmpo", [1.0, 1.0], [1.0, 3.0], INDEX[:2], eps=2.0)[0]
    close(eps, [-1, -1])
