from fractions import Fraction

import pytest

from rlnorm.rewards.math.atoms import parse_number
from rlnorm.rewards.math.budget import OverBudget
from rlnorm.rewards.math.parse import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", Fraction(12)),
        ("0.125", Fraction(1, 8)),
        ("3.", Fraction(3)),
        ("1.5e2", Fraction(150)),
        ("25E-2", Fraction(1, 4)),
    ],
)
def test_literals_are_exact(text, value):
    assert parse_number(text) == value


def test_a_huge_power_of_ten_is_not_written_out():
    with pytest.raises(OverBudget, match="the literal 1e99999"):
        parse_number("1e99999")


def test_brackets_keep_their_order_and_their_kind():
    one, two = parse("1"), parse("2")
    assert parse("(2,1]") == ("tuple", "(", "]", (two, one))
    assert parse(r"\{1,2\}") == ("set", (one, two))
    assert parse("(1)") == one
