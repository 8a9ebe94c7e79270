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
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status


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


DECIDED_EQUAL = [
    ("3^{1/3^{500}}", "3^{1/3^{500}}"),
    (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}"),
    ("0", r"\sqrt{5+2\sqrt6}-\sqrt2-\sqrt3"),
    (r"\sin^2 x", r"1-\cos^2x"),
    ("10^{-400}", r"\frac{1}{10^{400}}"),
    (r"10^{-400}\pi", r"\frac{\pi}{10^{400}}"),
    (r"[1,\infty)", r"[\sqrt{1},\infty)"),
    ("2^{1/8}", r"\sqrt{\sqrt{\sqrt2}}"),
    (r"e^{i\pi}", "-1"),
    (r"x^2=4\cdot10^{-50}", "10^{50}x^2=4"),
    (r"(0,\sqrt2)", "(0,2^{1/2})"),
    (r"[0,1]\cup[\sqrt{1},2]", "[0,2]"),
    ("10^{2000}", "10^{2000}"),
    (r"\sqrt{2}^{2000}", "2^{1000}"),
    (r"\pi^{1000}", r"\pi^{1000}"),
    ("(0,10^{-400})", r"(0,\frac1{10^{400}})"),
    (r"\ln 2^{100}", r"100\ln2"),
    ("9^{9^9}", "9^{9^9}"),
    (r"[9^{9^9},\infty)", r"[9^{9^9},\infty)"),
    (r"\cos\frac{\pi}{5}", r"\frac{1+\sqrt5}{4}"),
]
NOT_EQUAL = [
    (r"[1,\infty)", r"[3^{1/3^{500}},\infty)"),
    ("0", "10^{-400}"),
    ("1", "1+2^{-2000}"),
    ("(0,1)", "(10^{-350},1)"),
    ("1", "2^{1/2^{300}}"),
    ("0", r"\sqrt{2}\cdot10^{-300}"),
    ("262537412640768744", r"e^{\pi\sqrt{163}}"),
    ("x", "x+10^{-400}"),
    ("x", "x+2^{-90}"),
    ("x^2<4", "x^2<4+10^{-40}"),
    ("y=x", "y=x+10^{-60}"),
    ("y=x", r"y=x\cdot(1+10^{-60})"),
    ("[0,2]", r"[0,1]\cup(1+10^{-60},2]"),
    ("[0,2]", r"[0,1]\cup(1+10^{-50}\sqrt2,2]"),
    ("1", r"\cos(10^{-300})"),
    ("0", r"\sin(10^{-200})"),
    (r"\pi", r"\pi+10^{-100}"),
    (r"\sqrt2", r"\sqrt{2+10^{-80}}"),
    ("0", "e^{-1000}"),
    ("1", r"\tanh(500)"),
    (r"\{0,1\}", r"\{10^{-99},1\}"),
    ("(0,0)", r"(0,10^{-500}\pi)"),
    (r"\sqrt{2}", r"\sqrt{2}+9^{-9^{9}}"),
    ("1", r"1-\frac{1}{1000!}"),
    ("0", r"\frac{1}{1000!}\pi"),
    ("9^{9^9}", "9^{9^8}"),
    ("x>0", "x>10^{-200}"),
    ("|x|<1", "|x|<1+10^{-90}"),
    (r"(-\infty,0)\cup(0,\infty)", r"x\ne10^{-300}"),
    (r"\mathbb{R}\setminus\{0\}", r"\mathbb{R}\setminus\{10^{-300}\}"),
    (r"\begin{pmatrix}1\\0\end{pmatrix}", r"\begin{pmatrix}1\\10^{-300}\end{pmatrix}"),
    ("1:1", r"1:1+10^{-200}\sqrt2"),
    (r"\pm1", r"\pm(1+10^{-90}\sqrt2)"),
]


@pytest.mark.parametrize(("gold", "answer"), DECIDED_EQUAL)
def test_equal_however_tiny_or_huge_a_part_is(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), NOT_EQUAL)
def test_nothing_tiny_counts_as_zero(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is not Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is not Status.CORRECT


SAME_FUNCTION = [
    (r"\lfloor\log_2 n\rfloor+1", r"1+\lfloor\frac{\ln n}{\ln 2}\rfloor"),
    (r"\lceil x/20\rceil", r"-\lfloor-\frac{x}{20}\rfloor"),
    (r"\lceil y+3\rceil", r"\lceil y\rceil+3"),
    ("|x-2|", "|2-x|"),
    ("||x|-|n||", "||n|-|x||"),
    (r"\lfloor n/2\rfloor+\lceil n/2\rceil", r"\lceil n/2\rceil+\lfloor n/2\rfloor"),
    (r"\max(x,y)", r"\frac{x+y+|x-y|}{2}"),
    (r"\lfloor x/2000\rfloor", r"\lfloor\frac{x}{2000}\rfloor"),
    (r"\sqrt{y-5}", "(y-5)^{1/2}"),
    (r"\ln(x-10)+1", r"1+\ln(x-10)"),
    (r"\ln(x-10)+\sqrt{5-y}", r"\sqrt{5-y}+\ln(x-10)"),
    (r"\sqrt{x-1000}", "(x-1000)^{1/2}"),
    (r"\sqrt{-x-3}", r"(-(x+3))^{\frac12}"),
    (r"\arcsin(x-3)", r"\arcsin(-3+x)"),
    ("(-1)^n", "(-1)^{n+2}"),
]
OTHER_FUNCTION = [
    (r"\lfloor\log_2 n\rfloor+1", r"\lfloor\log_2 m\rfloor+1"),
    (r"\lfloor\log_2 n\rfloor+1", r"\lceil\log_2 n\rceil"),
    (r"\lfloor\log_2 n\rfloor", r"\lfloor\log_2 (n+1)\rfloor"),
    (r"\lceil x/20\rceil", r"\lceil x/21\rceil"),
    (r"\lceil x/2000\rceil", r"\lceil x/2001\rceil"),
    (r"\lceil x/20\rceil", r"\lfloor x/20\rfloor+1"),
    (r"\lfloor x/20\rfloor", r"\lfloor (x+1)/20\rfloor"),
    (r"\lfloor x/3\rfloor", r"\lfloor (x+0.001)/3\rfloor"),
    (r"\lceil y+\pi\rceil", r"\lceil y+3\rceil"),
    (r"\lceil y+\pi\rceil", r"\lceil y+3.14159\rceil"),
    (r"\lfloor\sqrt{n}\rfloor", r"\lceil\sqrt{n}\rceil"),
    (r"\lfloor\sqrt{n}\rfloor", r"\lfloor\sqrt{n+1}\rfloor"),
    ("||x|-|n||", "||k|-|n||"),
    ("||x|-|n||", "|x-n|"),
    ("|x|", "x"),
    ("|x|", "|y|"),
    ("|x-1000|", "1000-x"),
    (r"\max(x,100)", r"\max(x,101)"),
    (r"\max(x,y)", r"\max(x,z)"),
    (r"n\bmod 100", r"n\bmod 101"),
    (r"\lfloor x\rfloor", r"\lfloor x+10^{-20}\rfloor"),
    (r"\sqrt{y-5}", "(y-5)^{1/3}"),
    (r"\sqrt{y-5}", r"\sqrt{y-6}"),
    (r"\sqrt{y-5}", r"\sqrt{x-5}"),
    (r"\sqrt{y-5}", r"-\sqrt{y-5}"),
    (r"\ln(x-10)+1", r"\ln(x-10)+2"),
    (r"\ln(x-10)+1", r"\ln(x-10)"),
    (r"\sqrt{x-1000}", r"\sqrt{x-1001}"),
    ("(-1)^n", "(-1)^{n+1}"),
    ("x-n", "n-k"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME_FUNCTION)
def test_the_same_function(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), OTHER_FUNCTION)
def test_another_function(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is not Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is not Status.CORRECT
