import pytest

from rlnorm.rewards.math.intervals import as_region, pieces
from rlnorm.rewards.math.parse import parse


def test_parts_that_touch_are_one():
    assert pieces(parse(r"(0,1)\cup[1,2)")) == (parse("(0,2)"),)
    # 1 itself is missing
    assert len(pieces(parse(r"(0,1)\cup(1,2)"))) == 2


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("x>2", r"(2,\infty)"),
        (r"x\le 2", r"(-\infty,2]"),
        ("0<x<3", "(0,3)"),
        ("[1,2)", "[1,2)"),
    ],
)
def test_inequalities_are_intervals(text, region):
    assert pieces(as_region(parse(text))) == pieces(parse(region))


def test_a_number_is_no_region():
    assert as_region(parse("5")) is None
