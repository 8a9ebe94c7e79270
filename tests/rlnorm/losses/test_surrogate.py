import torch

from rlnorm.losses.surrogate import clipped_surrogate, log_ratio

RATIO = torch.tensor([2.0, 0.5, 2.0, 0.5], dtype=torch.float64)
ADVANTAGES = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)


def test_each_bound_holds_back_one_sign(close):
    got = clipped_surrogate(RATIO, ADVANTAGES, clip_low=0.25, clip_high=0.5)
    # min(r, 1.5) where A > 0, max(r, 0.75) where A < 0
    close(got.values, [-1.5, -0.5, 2.0, 0.75])
    assert got.clipped.tolist() == [True, False, False, True]
    free = clipped_surrogate(RATIO, ADVANTAGES, clip_low=None, clip_high=None)
    close(free.values, [-2.0, -0.5, 2.0, 0.5])


def test_the_second_bound_is_for_negative_advantages(close):
    got = clipped_surrogate(RATIO, ADVANTAGES, clip_low=None, clip_high=None, dual_clip=1.25)
    close(got.values, [-2.0, -0.5, 1.25, 0.5])
    assert got.clipped_low.tolist() == [False, False, True, False]


def test_the_log_ratio_is_held_on_both_sides(close):
    new, old = torch.tensor([-1.0, -5.0, -1.0]), torch.tensor([-4.0, -1.0, -2.0])
    close(log_ratio(new, old, 2.0).double(), [2, -2, 1])
    close(log_ratio(new, old, None).double(), [3, -4, 1])
