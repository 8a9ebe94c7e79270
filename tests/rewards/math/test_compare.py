from fractions import Fraction

import pytest

from rlnorm.rewards.math.budget import OverBudget
from rlnorm.rewards.math.compare import (
    Policy,
    is_finite_decimal,
    match_unordered,
    rationals_equal,
    values_equal,
)
from rlnorm.rewards.math.parse import parse


@pytest.mark.parametrize(("value", "finite"), [("3/8", True), ("7/50", True), ("1/3", False)])
def test_denominators_of_twos_and_fives_end(value, finite):
    assert is_finite_decimal(Fraction(value)) == finite


@pytest.mark.parametrize(
    ("gold", "answer", "decimal", "equal"),
    [
        ("1/3", "333333/1000000", True, True),  # a third has no decimal: six places do
        ("1/3", "333333/1000000", False, False),
        ("1/3", "33/100", True, False),
        ("1/2", "500001/1000000", True, False),  # a half has one
        ("1/3000000", "0", True, False),  # within six places, but nothing of it is left
    ],
)
def test_a_decimal_may_round_what_no_decimal_spells(gold, answer, decimal, equal):
    got = rationals_equal(Fraction(gold), Fraction(answer), decimal=decimal, policy=Policy())
    assert got == equal


def test_tolerances_are_the_policys():
    a, b = Fraction(100), Fraction(101)
    assert rationals_equal(a, b, decimal=False, policy=Policy(absolute_tolerance=1.0))
    assert rationals_equal(a, b, decimal=False, policy=Policy(relative_tolerance=0.01))
    assert not rationals_equal(a, b, decimal=False, policy=Policy(relative_tolerance=0.009))


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("(x+1)^2", "x^2+2x+1", True),
        ("(x+1)^2", "x^2+1", False),
        (r"\sqrt{8}", r"2\sqrt{2}", True),
    ],
)
def test_expressions_are_compared_at_points(a, b, equal):
    assert values_equal(parse(a), parse(b), Policy()) == equal


def test_sets_pair_off_both_ways():
    def same(a, b):
        return a == b

    assert match_unordered([1, 2], [2, 1, 1], same)
    assert not match_unordered([1, 2], [1], same)
    assert not match_unordered([1], [], same)
    with pytest.raises(OverBudget, match="a list of more than 2"):
        match_unordered([1, 2, 3], [1], same, limit=2)
