import torch

from rlnorm.advantages.mc_grpo import mc_grpo


def run(rewards, groups=None, **options):
    table = torch.tensor(rewards, dtype=torch.float64)[:, None]
    index = torch.zeros(len(rewards), dtype=torch.long) if groups is None else torch.tensor(groups)
    result = mc_grpo(table, index, **options)
    return result.values, result.keep.tolist()


def close(got, want):
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-10, atol=1e-10)


def test_median_mad_and_pivot():
    values, keep = run([0.1, 0.4, 0.35, 0.9, 0.2])
    # median 0.35, distances .25 .05 0 .55 .15: MAD 0.15
    close(values, [-0.25 / 0.151, 0.05 / 0.151, 0, 0.55 / 0.151, -0.15 / 0.151])
    assert keep == [True, True, False, True, True]


def test_an_even_number_takes_the_lower_middle_for_both_medians():
    values, keep = run([0.1, 0.2, 0.3, 0.4])
    # median 0.2, distances .1 0 .1 .2: lower middle 0.1
    close(values, [-0.1 / 0.101, 0, 0.1 / 0.101, 0.2 / 0.101])
    assert keep == [True, False, True, True]


def test_among_ties_the_first_is_the_pivot_and_eps_bounds_a_zero_mad():
    values, keep = run([1.0, 0.0, 0.0])
    close(values, [1000, 0, 0])
    assert keep == [True, False, True]


def test_zero_compensation_counts_the_pivot():
    close(run([1.0, 0.0, 0.0], zero_compensation=True)[0], [3000, 0, 0])


def test_other_scales():
    close(run([1.0, 0.0, 4.0], scale="none")[0], [0, -1, 3])
    # std of 1, 0, 4: squares 4/9 + 25/9 + 49/9 over 2
    std = (26 / 3 / 2) ** 0.5
    close(run([1.0, 0.0, 4.0], scale="std", eps=0.0)[0], [0, -1 / std, 3 / std])
    third = (2 / 3 / 2) ** 0.5
    close(run([1.0, 0.0, 0.0], scale_floor=0.01)[0], [1 / (third + 1e-3), 0, 0])


def test_groups_in_any_order_and_missing_rewards():
    values, keep = run([5.0, float("nan"), 1.0, 2.0, 3.0, 7.0], [1, 0, 0, 0, 0, 1], eps=1.0)
    # group 1: 5 and 7, median 5, distances 0 and 2, MAD 0; group 0: 1 2 3, median 2, MAD 1
    close(values, [0, 0, -0.5, 0, 0.5, 2])
    assert keep == [False, False, True, False, True, True]
