from fractions import Fraction

import pytest

from rlnorm.rewards.math.budget import OverBudget, Undefined
from rlnorm.rewards.math.evaluate import Numeric, deciding_digits, exact, has_kind, symbols
from rlnorm.rewards.math.parse import parse
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status


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


SAME_FUNCTION = [
    (r"\lfloor\sqrt{n-1}\rfloor", r"\lfloor (n-1)^{1/2}\rfloor"),
    (r"\lfloor x\rfloor+1", r"\lfloor x+1\rfloor"),
    ("|x-1000|", "|1000-x|"),
    ("|x|", r"\sqrt{x^2}"),
    (r"\max(a,b)", r"\frac{a+b+|a-b|}{2}"),
    ("(-1)^n n", "n(-1)^n"),
    ("(-1)^n", "(-1)^{n+2}"),
    ("(-1)^{n+1}", "-(-1)^n"),
    (r"\frac{(-1)^n+1}{2}", r"\frac{1+(-1)^{n}}{2}"),
    ("2^n", r"2\cdot 2^{n-1}"),
    ("(-2)^n", "(-1)^n2^n"),
    (r"\lfloor n/2\rfloor", r"\left\lfloor\frac{n}{2}\right\rfloor"),
    (r"\binom{n}{2}", r"\frac{n!}{2(n-2)!}"),
    ("n!", r"n\cdot(n-1)!"),
    (r"\lceil x\rceil", r"-\lfloor -x\rfloor"),
    ("(-8)8", "-64"),
    (r"\left(-1\right) 8 \sqrt{3} + 15", r"15-8\sqrt3"),
    ("|x-1|+|x-2|", "|x-2|+|1-x|"),
    ("e^{|x|}", r"e^{\sqrt{x^2}}"),
    ("2^{2n}-1", "4^n-1"),
]
OTHER_FUNCTION = [
    (r"\lfloor\sqrt{n-1}\rfloor", r"-\lfloor\sqrt{n-1}\rfloor"),
    (r"\lfloor\sqrt{n-1}\rfloor", r"2\lfloor\sqrt{n-1}\rfloor"),
    (r"\lfloor x\rfloor", r"\lceil x\rceil-1"),
    (r"\lfloor x\rfloor", r"\lfloor x+\frac12\rfloor"),
    (r"\lfloor x/100\rfloor", "0"),
    (r"\lfloor x\rfloor", r"x-\frac12"),
    (r"\max(n,100)", "100"),
    (r"\min(n,100)", "n"),
    ("|x-1000|", "1000-x"),
    ("|x|", "x"),
    ("|x-100000|", "100000-x"),
    ("(-1)^n", "1"),
    ("(-1)^n", "-1"),
    ("(-1)^n", "(-1)^{n+1}"),
    ("(-1)^n", "(-1)^{n(n+1)/2}"),
    ("(-1)^n n", "n"),
    ("(-1)^n", r"\cos n"),
    ("(-2)^n", "2^n"),
    ("(-2)^n", "-2^n"),
    (r"n\bmod 3", "n"),
    (r"n\bmod 100", r"n\bmod 101"),
    (r"\binom{n}{2}", r"\binom{n}{3}"),
    (r"\lceil\log_2 n\rceil", r"\lfloor\log_2 n\rfloor+1"),
    ("23", "(2)3"),
    (r"\lfloor\frac{n}{4}\rfloor", r"\lfloor\frac n5\rfloor"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME_FUNCTION)
def test_functions_that_agree_everywhere(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), OTHER_FUNCTION)
def test_functions_that_differ_somewhere(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is not Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is not Status.CORRECT
