"""Each pair: a gold, and an answer in a box that must, or must not, be equal to it."""

import pytest

from rlnorm.rewards.math.layout import single_backslashes, without_layout
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

SAME = [
    (r"\\sqrt{2}", r"\sqrt2"),
    (r"50\\%", "50"),
    (r"\\{1,2\\}", r"\{2,1\}"),
    (r"\\text{(A)}", "A"),
    (r"\\boxed{5}", "5"),
    ("7/12", r"\\dfrac{7}{12}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\\begin{pmatrix}1\\\\2\\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\\begin{pmatrix}1\\2\\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\[4pt]3&4\end{bmatrix}"),
    ("12", r"12\\ \\text{cm}"),
    ("x^2+1", r"x^{2}\\,+\\;1"),
    (r"\\pi r^2", r"\pi r^2"),
    (r"\\\\frac{1}{2}", "1/2"),
    ("5", r"\bf 5"),
    ("5", r"{\bf 5}"),
    ("5", r"\boldsymbol{5}"),
    ("5", r"\bm{x}=5"),
    ("5", r"\mathit{5}"),
    ("5", r"\textcolor{blue}{5}"),
    ("5", r"\color{red}5"),
    ("5", r"{\color{red} 5}"),
    ("5", r"\underline{x=5}"),
    ("5", r"\fbox{5}"),
    ("5", r"\large 5"),
    ("5", r"\colorbox{yellow}{$5$}"),
    (r"\frac12", r"\displaystyle\frac{1}{2}"),
    (r"\frac12", r"\mathrm{\frac{1}{2}}"),
    ("(1,2)", r"\mathbf{(1,2)}"),
    ("(1,2)", r"\text{(1, 2)}"),
    ("x+1", r"\mathbf{x}+\mathbf{1}"),
    ("2x+1", r"\text{2x+1}"),
    ("3/4", r"\textbf{3/4}"),
    ("12", r"\textbf{12 cm}"),
    ("x=5", r"\textit{x = 5}"),
    (r"\sin x", r"\mathrm{sin}\,x"),
    (r"5\text{ minutes}", r"5\,\mathrm{min}"),
    ("1234", r"\mathbf{1,234}"),
    ("1234567", r"\textbf{1,234,567}"),
    ("5", r"5\qquad"),
    ("5", r"\quad 5 \quad"),
    ("5", r"5\ "),
    ("5", r"5\!"),
    ("1234", r"1\,234"),
    ("5", r"5\hspace{2em}"),
    ("5", r"5\hspace*{1cm}"),
    ("5", r"\phantom{0}5"),
    ("5", r"\mathstrut 5"),
    ("5", r"5\nonumber"),
    ("5", r"5\tag*{(1)}"),
    ("5", r"5\;\blacksquare"),
    ("5", "5 ✓"),
    ("5", "5 ✅"),
    ("5", r"5\,\square"),
    ("x=5", r"x=5\label{eq:1}"),
    ("3:4", r"3\mathbin{:}4"),
    ("3:4", r"3\mathpunct{:}4"),
    ("3:4", "3 : 4"),
    ("3:4", "3∶4"),
    ("a+b", "a{+}b"),
    ("x=5", "x{=}5"),
    ("3/4", r"{3 \over 4}"),
    ("(a+b)/2", r"a+b\over2"),
    ("x=3/4", r"x={3\over 4}"),
    ("x=3/4", r"x=3\over4"),
    (r"{n \choose 2}", "n(n-1)/2"),
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
]
DIFFERENT = [
    (r"\\frac{7}{12}", r"\frac{12}{7}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    ("12", r"1\\2"),
    ("5", r"5\\6"),
    ("12", "1 , 2"),
    ("23", r"2\mathbf{3}"),
    ("35", r"\mathbf{3}5"),
    ("23", r"2\textbf{3}"),
    ("6", "2 3"),
    ("5", r"\mathbf{x=6}"),
    ("5", r"\textbf{-5}"),
    ("5", r"\text{3x}"),
    ("3", r"\text{3x}"),
    ("3", r"3\text{x}"),
    ("5", r"\phantom{5}"),
    ("5", r"\phantom{-}6"),
    ("5", r"\textcolor{red}{6}"),
    ("5", r"\textcolor{5}{6}"),
    ("5", r"\color{5}"),
    ("5", r"\tag{5}"),
    ("5", r"\cancel{5}"),
    ("5", r"\sout{5}"),
    ("5", r"\cancel{4}5"),
    ("5", r"5\times"),
    ("5", "5 ✗"),
    ("5", "5 ❌"),
    ("5", r"\text{5 or 6}"),
    ("5", r"\text{not 5}"),
    ("5", r"\text{x=5 or x=6}"),
    ("5", r"\mathbf{5,6}"),
    ("5", r"\underbrace{6}_{5}"),
    ("5", r"6\tag{5}"),
    ("5", r"\not=5"),
    ("5", r"x\not=5"),
    ("3/4", r"{4\over 3}"),
    ("3/4", r"3\atop 4"),
    ("3/4", r"a\over b"),
    ("2", r"1\over2\over1"),
    (r"{n \choose 2}", r"{2 \choose n}"),
    ("1/4", r"1 \over 2 \over 2"),
    ("7/2", r"3+1\over 2"),
    ("3:45", "345"),
    ("3:45", "3{,}45"),
    ("3:45", "45:3"),
    ("3:4", "3;4"),
    ("3:4", "4{:}3"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME)
def test_layout_does_not_change_an_answer(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_layout_does_not_hide_a_difference(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is not Status.CORRECT


@pytest.mark.parametrize(
    ("text", "single"),
    [
        (r"\\frac{1}{2}", r"\frac{1}{2}"),
        (r"\frac{\\pi}{2}", r"\frac{\pi}{2}"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\begin{pmatrix}a\\pi\end{pmatrix}", r"\begin{pmatrix}a\\pi\end{pmatrix}"),
        (r"\\begin{pmatrix}1\\\\2\\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\\begin{pmatrix}1\\2\\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"x=1\\y=2", "x=1 , y=2"),
        (r"x=1 \\ y=2", "x=1 , y=2"),
        ("5\\\\", "5"),
    ],
)
def test_single_backslashes(text, single):
    assert single_backslashes(text) == single


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"\mathbf{x=5}", "x=5"),
        (r"\textbf{\frac{3}{4}}", r"\frac{3}{4}"),
        (r"\text{5 cm}", r"\text{5 cm}"),
        (r"\mathrm{m/s^2}", r"\text{m/s^2}"),
        (r"\textbf{yes}", r"\text{yes}"),
        (r"2\mathbf{x+1}", "2{x+1}"),
        (r"x^\mathbf{12}", "x^{12}"),
        (r"\underbrace{5}_{\text{all}}", "5"),
        (r"\textcolor{red}{\textbf{5}}", "5"),
        (r"\mathbf{5", r"\mathbf{5"),
    ],
)
def test_without_layout(text, plain):
    assert without_layout(text) == plain


def test_deep_nesting_costs_one_pass():
    text = "\\textbf{" * 400 + "5" + "}" * 400
    assert without_layout(text) == "5"
