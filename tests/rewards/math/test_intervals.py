import pytest

from rlnorm.rewards.math.intervals import as_region, pieces
from rlnorm.rewards.math.parse import parse
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status


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


SAME_REGION = [
    (r"(-\infty,2)\cup(2,\infty)", "ℝ∖{2}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\setminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\backslash\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}-\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb R\setminus 2"),
    (r"(-\infty,2)\cup(2,\infty)", r"x\in\mathbb{R}\setminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"x\ne2"),
    (r"(-\infty,2)\cup(2,\infty)", r"\{x\mid x\ne2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\{x\in\mathbb{R}:x\neq2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"ℝ \ {2}"),
    (r"(-\infty,2)\cup(2,\infty)", r"ℝ\{2}"),
    (r"(-\infty,2)\cup(2,\infty)", r"(-\infty,\infty)\setminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\smallsetminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"x \in \mathbb{R}, x\neq 2"),
    (r"\mathbb{R}\setminus\{0,3\}", r"\mathbb{R}\setminus\{3,0\}"),
    (r"\mathbb{R}\setminus\{0,3\}", r"x\ne0,3"),
    (r"\mathbb{R}\setminus\{0,3\}", r"x\ne0,x\ne3"),
    (r"\mathbb{R}\setminus\{0,3\}", r"x\neq0\text{ and }x\ne 3"),
    (r"\mathbb{R}\setminus\{0,3\}", r"\mathbb{R}\setminus\{0\}\setminus\{3\}"),
    (r"(0,1)\cup(1,\infty)", r"(0,\infty)\setminus\{1\}"),
    (r"[0,2)\cup(2,5]", r"[0,5]\setminus\{2\}"),
    (r"[0,5]\setminus\{2\}", r"[0,5]-\{2\}"),
    (r"(-\infty,0)\cup(1,\infty)", r"\mathbb{R}\setminus[0,1]"),
    (r"(-\infty,0]\cup[1,\infty)", r"\mathbb{R}\setminus(0,1)"),
    (r"\{1,3\}", r"\{1,2,3\}\setminus\{2\}"),
    (r"\mathbb{R}\setminus\{\pm1\}", r"\mathbb{R}\setminus\{1,-1\}"),
    (r"(-\infty,\sqrt2)\cup(\sqrt2,\infty)", r"\mathbb{R}\setminus\{2^{1/2}\}"),
    (r"\mathbb{R}\setminus\mathbb{Z}", "ℝ∖ℤ"),
    ("[0,2]", r"[0,1]\cup[1,2]"),
    ("[0,2]", r"[0,1)\cup[1,2]"),
    ("(0,1]", r"(0,2)\setminus(1,2)"),
    (r"\mathbb{R}\setminus\{0\}", r"\mathbb{R}\setminus\left\lbrace 0\right\rbrace"),
    (r"R\setminus\{0\}", r"\mathbb{R}\setminus\{0\}"),
]
OTHER_REGION = [
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\setminus\{3\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\setminus\{-2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\setminus\{2,3\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}\setminus[2,3]"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{R}"),
    (r"(-\infty,2)\cup(2,\infty)", r"(-\infty,2)"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{Z}\setminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", "x=2"),
    (r"(-\infty,2)\cup(2,\infty)", r"\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbb{C}\setminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\{x\mid x\ne3\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"(-\infty,2]\cup(2,\infty)"),
    (r"\mathbb{R}\setminus\{0,3\}", r"x\ne0,x=3"),
    (r"\mathbb{R}\setminus\{0,3\}", r"x\ne0,y\ne3"),
    (r"\mathbb{R}\setminus\{0,3\}", r"\mathbb{R}\setminus(0,3)"),
    (r"(0,1)\cup(1,\infty)", r"[0,\infty)\setminus\{1\}"),
    (r"(0,1)\cup(1,\infty)", r"\mathbb{R}\setminus\{1\}"),
    (r"[0,2)\cup(2,5]", r"[0,5]\setminus\{5\}"),
    (r"(-\infty,0)\cup(1,\infty)", r"\mathbb{R}\setminus(0,1)"),
    (r"\{1,3\}", r"\{1,2,3\}\setminus\{3\}"),
    ("2", r"\mathbb{R}\setminus\{2\}"),
    (r"\{2\}", r"\mathbb{R}\setminus\{2\}"),
    ("[0,2]", r"[0,1)\cup(1,2]"),
    (r"\mathbb{R}\setminus\{0\}", r"\mathbb{Q}\setminus\{0\}"),
    (r"\mathbb{R}\setminus\mathbb{Z}", r"\mathbb{R}\setminus\mathbb{Q}"),
    (r"\{1,2\}", r"\{1\}\setminus\{2\}"),
    (r"\{1,2\}\setminus\{1\}", r"\{1\}"),
    (r"x\ne2", "x=2"),
    (r"\{0,3\}", r"x\ne0,3"),
    ("(0,5)", r"[0,5]\setminus\{0\}"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME_REGION)
def test_the_same_part_of_the_line(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), OTHER_REGION)
def test_another_part_of_the_line(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is not Status.CORRECT
    assert verify(answer, f"\\boxed{{{gold}}}").status is not Status.CORRECT
