from fractions import Fraction

import pytest

from rlnorm.rewards.math.budget import Unparsable
from rlnorm.rewards.math.parse import parse
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status


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


SAME_NOTATION = [
    ("3:4", r"3\mathbin{:}4"),
    ("3:4", r"3\mathpunct{:}4"),
    ("3:4", "3 : 4"),
    ("3:4", "3∶4"),
    ("3/4", r"{3 \over 4}"),
    ("(a+b)/2", r"a+b\over2"),
    ("x=3/4", r"x={3\over 4}"),
    ("x=3/4", r"x=3\over4"),
    (r"\binom{n+1}{2}", r"{n+1 \choose 2}"),
    (r"\frac{\sqrt3}{2}", r"{\sqrt{3}\over 2}"),
    ("-3/4", r"-{3\over4}"),
    ("14", r"2\Bigl( 3+4\Bigr)"),
    ("5", r"\lvert -5\rvert"),
    ("5", r"\left\vert -5\right\vert"),
    ("(1,2)", r"\lparen 1,2\rparen"),
    (r"\{1,2\}", r"\lbrace 1,2\rbrace"),
    (r"\{1,2\}", r"\left\lbrace 1,2\right\rbrace"),
    ("[1,2)", r"\left\lbrack 1,2\right\rparen"),
    ("[1,2)", r"\bigl[1,2\bigr)"),
    ("(1,2)", r"\langle 1,2\rangle"),
    ("2", r"\lfloor 2.5\rfloor"),
    ("3", r"\left\lceil 2.5\right\rceil"),
    (r"\{x\mid x>0\}", r"\left\lbrace x\;\middle|\;x>0\right\rbrace"),
    (r"\{x\mid x>0\}", r"\{x:x>0\}"),
    ("5", r"\left|{-5}\right|"),
    ("5", r"\lVert -5\rVert"),
    ("5", r"\big|-5\big|"),
    ("(0,1)", r"\left]0,1\right["),
    ("[0,1)", r"\left[0,1\right["),
    ("(0,1]", "]0,1]"),
    ("(1,2)", r"\Big(1,2\Big)"),
    ("(1,2)", r"\biggl(1,2\biggr)"),
    (r"\lfloor x\rfloor", r"\left\lfloor x\right\rfloor"),
    ("2", r"\lceil 1.5\rceil"),
    ("7", r"\{3+4\}"),
    ("7", r"\left\{3+4\right\}"),
    ("14", r"2\{3+4\}"),
    ("14", r"2\left\{3+4\right\}"),
    ("14", r"2\lbrace 3+4\rbrace"),
    ("14", r"2\left[3+4\right]"),
    ("6", r"\mleft\lgroup 2\mright\rgroup\cdot 3"),
    ("5", r"\lparen 5\rparen"),
    (r"\frac{x+1}{x-1}", r"{x+1\over x-1}"),
    (r"\frac12", r"{1\over2}"),
    (r"\frac{1}{2}\pi", r"{1\over 2}\pi"),
    (r"x=\frac{-b}{2a}", r"x={-b\over 2a}"),
    (r"\sqrt{\frac12}", r"\sqrt{1\over2}"),
    (r"(\frac12,3)", r"({1\over 2},3)"),
    ("2^{1/2}", r"2^{1\over2}"),
    (r"\frac{\frac12}{3}", r"{{1\over2}\over3}"),
    (r"\frac{3}{4}", r"\displaystyle{3\over4}"),
    ("6", r"{4\choose 2}"),
    (r"\frac34", r"\left(3\over4\right)"),
    ("3:45", r"3\mathpunct{:}45"),
    ("1:2:3", "1{:}2{:}3"),
    ("1:2", r"1\,{:}\,2"),
    ("1:2", r"1\colon 2"),
    (r"\{1,2\}", r"\mathbf{\{1,2\}}"),
    ("-6", r"-\lbrace 1+\lparen 2+3\rparen\rbrace"),
    ("-6", r"-\{1+5\}"),
    ("10", r"4+\{1+5\}"),
    ("-2x-2", r"-2\lbrace x+1\rbrace"),
    (r"\mathbb{R}\setminus\{0\}", r"\mathbb{R}-\{0\}"),
]
OTHER_NOTATION = [
    ("3/4", r"{4\over 3}"),
    ("3/4", r"3\atop 4"),
    ("3/4", r"a\over b"),
    ("2", r"1\over2\over1"),
    (r"{n \choose 2}", r"{2 \choose n}"),
    ("1/4", r"1 \over 2 \over 2"),
    ("7/2", r"3+1\over 2"),
    ("3:4", "4{:}3"),
    ("(0,1)", "]0,1]"),
    ("(0,1)", r"\left[0,1\right]"),
    ("14", r"2\{3,4\}"),
    ("7", r"\{3,4\}"),
    ("3/4", r"{3\over4}\pi"),
    ("1/4", r"{1\over2}"),
    ("345", "3{:}45"),
    ("-6", r"-\{1,5\}"),
    ("-6", r"-\lbrace 1+\lparen 2+4\rparen\rbrace"),
    ("-4", r"\{1\}-\{5\}"),
    ("2", r"(0,3)-\{1\}"),
    ("A-1", r"A-\{1\}"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME_NOTATION)
def test_a_notation_of_the_same(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), OTHER_NOTATION)
def test_a_notation_of_something_else(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is not Status.CORRECT
