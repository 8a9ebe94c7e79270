from fractions import Fraction

import pytest

from rlnorm.rewards.math.parse import parse
from rlnorm.rewards.math.points import (
    far_points,
    generic_points,
    is_piecewise,
    numbers_in,
    scattered_points,
    step_points,
    whole_points,
)

NAMES = ("k", "n", "x")


@pytest.mark.parametrize(
    "points", [generic_points(NAMES), whole_points(NAMES), far_points(NAMES, 20)]
)
def test_values_are_different_and_not_evenly_spaced(points):
    # in evenly spaced values k - n is n - x, and |k| - |n| is |n| - |x|
    for point in points:
        k, n, x = (Fraction(point[name]) for name in NAMES)
        assert len({k, n, x}) == 3
        assert k - n != n - x


def test_whole_points_have_every_remainder():
    values = [int(point["n"]) for point in whole_points(["n"])]
    for divisor in (2, 3, 4):
        assert {value % divisor for value in values} == set(range(divisor))


def test_far_points_lie_beyond_the_largest_number():
    values = [Fraction(point["x"]) for point in far_points(["x"], 1000)]
    assert max(values) > 3000
    assert min(values) < -3000


def test_scattered_points_lie_on_both_sides_of_each_number():
    values = [float(point["x"]) for point in scattered_points(["x"], [Fraction(10)])]
    for number in (10, -10):
        assert any(number - 1 < value < number for value in values)
        assert any(number < value < number + 1 for value in values)


def test_scattered_points_combine_sides():
    points = scattered_points(["x", "y"], [Fraction(10)])
    sides = {(float(point["x"]) > 10, float(point["y"]) > 10) for point in points}
    assert len(sides) == 4


def test_numbers_in_a_node():
    assert numbers_in(parse(r"\frac{x-3}{4}+0.5")) == {3, 4, Fraction(1, 2)}


@pytest.mark.parametrize(("text", "found"), [(r"1+|x|", True), (r"\sqrt{x}", False)])
def test_is_piecewise(text, found):
    assert is_piecewise(parse(text)) == found


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        # from 6.6 up, from 911.7 up, from -23.4 down to the next place where the floor changes
        (r"\lfloor x\rfloor", [7, 912, -24]),
        (r"\lceil x/20\rceil", [20, 920, -40]),
        (r"\lfloor\sqrt{x}\rfloor", [9, 961]),
        # no power of 2 is reached from below 0
        (r"\lfloor\log_2 x\rfloor", [8, 1024]),
        (r"|x-5|", [5, 5, 5]),
        (r"x\bmod 7", [7, 917, -28]),
        (r"\max(x,100)", [100, 100, 100]),
        ("x+1", []),
    ],
)
def test_step_points(text, steps):
    points = [Fraction(point["x"]) for point in step_points(parse(text), 1, ["x"])]
    assert [round(value) for value in points[::3]] == steps
    for on, below, above in zip(points[::3], points[1::3], points[2::3], strict=True):
        assert abs(on - round(on)) < Fraction(1, 10**30)
        assert below < on < above < below + Fraction(1, 20)
