from fractions import Fraction

import pytest

from rlnorm.rewards.math.budget import Unparsable
from rlnorm.rewards.math.parse import parse


def num(value, decimal=False):
    return ("num", Fraction(value), decimal)


X = ("sym", "x")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("1+2x", ("add", (num(1), ("mul", (num(2), X))))),
        (r"\frac{1}{2}", ("div", num(1), num(2))),
        ("2^{-3}", ("pow", num(2), num(-3))),
        ("x=5", ("rel", ("=",), (X, num(5)))),
        ("0<x<3", ("rel", ("<", "<"), (num(0), X, num(3)))),
        ("[1,2)", ("tuple", "[", ")", (num(1), num(2)))),
        ("5%", ("pct", num(5))),
        (r"\sqrt{2}", ("call", "root", (num(2), num(2)))),
    ],
)
def test_nodes(text, node):
    assert parse(text) == node


@pytest.mark.parametrize("text", ["", "1+", "(1,2", "2)"])
def test_half_an_expression_is_refused(text):
    with pytest.raises(Unparsable):
        parse(text)
