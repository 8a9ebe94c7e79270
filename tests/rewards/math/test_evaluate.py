from fractions import Fraction

import pytest

from rlnorm.rewards.math.budget import OverBudget, Undefined
from rlnorm.rewards.math.evaluate import Numeric, deciding_digits, exact, has_kind, symbols
from rlnorm.rewards.math.parse import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\frac{1}{2}+\frac13", Fraction(5, 6)),
        ("2^{-3}", Fraction(1, 8)),
        ("2-3*4", Fraction(-10)),
        (r"\sqrt{2}", None),
        ("x", None),
    ],
)
def test_exact_values(text, value):
    assert exact(parse(text)) == value


def test_the_sign_choice_takes_either_side():
    node = parse(r"5\pm 2")
    assert [exact(node, sign) for sign in (1, -1)] == [7, 3]


def test_numeric_values_at_a_point():
    assert Numeric({"x": 2})(parse("x^2+1")) == 5
    assert abs(Numeric({})(parse(r"\sqrt{2}")) ** 2 - 2) < 1e-30


def test_division_by_zero_has_no_value():
    with pytest.raises(Undefined):
        exact(parse(r"\frac{1}{0}"))


def test_what_a_node_holds():
    node = parse("x+2y=3")
    assert symbols(node) == {"x", "y"}
    assert has_kind(node, "mul")
    assert not has_kind(node, "pow", "call")


def test_digits_that_decide_grow_with_what_is_tiny():
    # 3^-500 is 2^-792: 692 bits beyond the first hundred are 208 digits, 120 + 4 * 208 < 960
    assert deciding_digits(792) == (960, 80 + 3 * 208)
    assert deciding_digits(50) == (120, 80)
    with pytest.raises(OverBudget, match="too close"):
        deciding_digits(5000)
