import pytest
import torch

from rlnorm.groups import (
    group_centred,
    group_count,
    group_lower_median,
    group_max,
    group_mean,
    group_min,
    group_std,
    group_zscore,
    make_groups,
    one_group,
)

NAN = float("nan")
LABELS = torch.tensor([7, -2, 7, -2, 7, 40])  # groups in order: -2, 7, 40
VALUES = torch.tensor([1.0, 5.0, 4.0, NAN, 10.0, 3.0], dtype=torch.float64)
GROUPS = make_groups(LABELS)


def close(got, want):
    torch.testing.assert_close(
        got, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12, equal_nan=True
    )


def test_ragged_groups_in_any_order_leave_nan_out():
    close(group_count(VALUES, GROUPS), [1, 3, 1])
    close(group_mean(VALUES, GROUPS), [5, 5, 3])
    close(group_min(VALUES, GROUPS), [5, 1, 3])
    close(group_max(VALUES, GROUPS), [5, 10, 3])
    close(group_centred(VALUES, GROUPS), [-4, 0, -1, NAN, 5, 0])


def test_std_divides_by_count_less_ddof():
    # squares of -4, -1, 5 add up to 42
    close(group_std(VALUES, GROUPS, ddof=0), [0, 14**0.5, 0])
    close(group_std(VALUES, GROUPS, ddof=1), [0, 21**0.5, 0])


def test_zscore_adds_eps_to_the_std():
    z = group_zscore(VALUES, GROUPS, eps=1.0, ddof=0)
    close(z, [-4 / (14**0.5 + 1), 0, -1 / (14**0.5 + 1), NAN, 5 / (14**0.5 + 1), 0])


def test_weighted_mean():
    weights = torch.tensor([1.0, 0, 2, 9, 5, 0])
    # (1 + 8 + 50) / 8; no weight at all: the plain mean
    close(group_mean(VALUES, GROUPS, weights=weights), [5, 59 / 8, 3])


@pytest.mark.parametrize("value", [0.1, 1 / 3, 3.3, 1e9 + 0.1, -7e-20])
@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_equal_values_centre_to_exactly_zero(value, size):
    values = torch.full((size,), value, dtype=torch.float64)
    groups = one_group(values)
    assert torch.equal(group_centred(values, groups), torch.zeros_like(values))
    assert torch.equal(group_zscore(values, groups, eps=0.0, ddof=0), torch.zeros_like(values))
    weights = torch.arange(size) + 1.0
    assert torch.equal(group_centred(values, groups, weights=weights), torch.zeros_like(values))


def test_an_offset_costs_no_digits():
    values = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    groups = one_group(values)
    near, far = (group_zscore(v, groups, eps=1e-6, ddof=1) for v in (values, values + 2.0**40))
    assert torch.equal(near, far)


def test_lower_median_of_an_even_number_is_the_lower_middle():
    values = torch.tensor([0.4, 9.0, 0.1, 9.0, 0.3, 0.2, NAN], dtype=torch.float64)
    groups = make_groups(torch.tensor([0, 1, 0, 1, 0, 0, 0]))
    close(group_lower_median(values, groups), [0.2, 9.0])
    empty = group_lower_median(torch.tensor([NAN, 1.0]), make_groups(torch.tensor([0, 1])))
    close(empty, [NAN, 1.0])


def test_columns_are_separate():
    table = torch.tensor([[0.0, 10.0], [2.0, NAN], [5.0, 30.0]], dtype=torch.float64)
    groups = make_groups(torch.tensor([0, 0, 1]))
    close(group_mean(table, groups), [[1, 10], [5, 30]])
    close(group_std(table, groups, ddof=0), [[1, 0], [0, 0]])
