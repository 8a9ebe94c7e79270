import pytest

from rlnorm.rewards.math.normalize import clean_unicode, join_thousands, normalize, strip_dollars
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status


@pytest.mark.parametrize(
    ("text", "plain"),
    [("x²", "x^{2}"), ("2½", "2 1/2"), ("5−1", "5-1"), ("a\u200bb", "ab")],
)
def test_unicode_becomes_ascii(text, plain):
    assert clean_unicode(text) == plain


@pytest.mark.parametrize(
    ("text", "joined"),
    [("12,345", "12345"), ("12 345", "12345"), ("(1,234)", "(1,234)"), ("12,34", "12,34")],
)
def test_thousands_are_joined_outside_brackets(text, joined):
    assert join_thousands(text) == joined


def test_dollars_are_delimiters_or_currency():
    assert strip_dollars(r"$x$").strip() == "x"
    assert strip_dollars(r"\$5") == "5"
    assert strip_dollars(r"\(x\)").strip() == "x"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\left(1,2\right)", "(1,2)"),
        (r"5\%", "5%"),
        ("1,234", "1234"),
    ],
)
def test_layout_goes(text, plain):
    assert normalize(text) == plain


SAME_SPELLING = [
    ("\x0crac{7}{12}", r"\frac{7}{12}"),
    ("\text{yes}", "yes"),
    ("2\times 3", "6"),
    ("\theta", r"\theta"),
    ("x\neq 2", r"x\ne2"),
    ("\\left(1,2\right)", "(1,2)"),
    ("\x08inom{4}{2}", "6"),
    (r"12\n", "12"),
    ("(1,2,3)", "<1,2,3>"),
    ("(1,2,3)", r"\left<1,2,3\right>"),
    ("(1,2)", r"\left\langle 1,2\right\rangle"),
    (r"(-\infty,2)\cup(2,\infty)", r"\R\setminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\Bbb{R}\setminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\mathbf{R}\setminus\{2\}"),
    (r"(-\infty,2)\cup(2,\infty)", "all real numbers except 2"),
    (r"(-\infty,2)\cup(2,\infty)", r"\text{all real numbers except }2"),
    (r"(-\infty,2)\cup(2,\infty)", r"\text{All reals except } x=2"),
    (r"\mathbb{R}\setminus\{0,3\}", r"\text{all real numbers except 0 and 3}"),
    (r"\mathbb{R}\setminus\{0,3\}", "ℝ∖{0; 3}"),
    (r"\mathbb{R}\setminus\{\frac12\}", r"\mathbb{R}\setminus\left\{\frac{1}{2}\right\}"),
    (r"\mathbb R", r"\R"),
    ("3:8", "3 to 8"),
    ("3:8", r"3\text{ to }8"),
    ("3:8", r"\text{3:8}"),
    ("3:8", "6:16"),
    ("3:8", "0.375"),
    ("(0,2)", "(0;2)"),
    ("(0,2),(1,3)", "(0;2),(1;3)"),
    ("(0,2),(1,3)", "(0,2);(1,3)"),
    ("(0,2),(1,3)", r"\{(0,2);(1,3)\}"),
    ("(0,2),(1,3)", "0,2;1,3"),
    ("[0,2]", "[0;2]"),
    ("1,2", "1;2"),
    ("(0,2;1,3;4,5)", "(0,2),(1,3),(4,5)"),
    ("-2", r"\det\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ("-2", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"),
    ("0", r"\begin{vmatrix}1&2&3\\4&5&6\\7&8&9\end{vmatrix}"),
    ("ad-bc", r"\begin{vmatrix}a&b\\c&d\end{vmatrix}"),
    ("-2", r"\det\left(\begin{matrix}1&2\\3&4\end{matrix}\right)"),
    (r"(-\infty,2)", r"\text{(}-\infty,2\text{)}"),
    ("-5", r"\text{-}5"),
    ("x=5", r"x\mathbf{=}5"),
    ("3:4", r"3\text{:}4"),
    ("1,2", r"1\text{, }2"),
    ("5", r"\text{$x=5$}"),
    ("1/2", r"\mbox{$\frac12$}"),
    ("5", r"\SI{5}{km}"),
    ("5", r"\qty{5}{\meter\per\second}"),
    ("5", r"\num{5}"),
    ("5", r"5\,\unit{kg}"),
    ("5 m/s", r"\SI{5}{\meter\per\second}"),
    ("2400", r"2\,400\,€/m^2"),
    ("2400", r"2\,400\,\text{€}/\text{m}^2"),
    (r"2400\ \text{euros per square meter}", r"2\,400\,€/m^2"),
    ("1234567", r"1\,234\,567\,\$/m^2"),
    ("0.35", r"\$0.35/kWh"),
    ("0.35", "€0.35/kWh"),
    ("12", "$12/kg"),
    ("1250", "£1,250/m^2"),
    ("12345", r"12{,}\!345"),
    ("1234567", r"1{,}\!234{,}\!567"),
    ("2,3", "2 y 3"),
    ("2,3", "2 et 3"),
    ("2,3", "2 o 3"),
    ("2,-3", "2 ou -3"),
    ("2,-3", "x = 2 et x = -3"),
    (r"\frac12,3", r"3 et \frac12"),
    (r"2y\sqrt{3}", r"2 y \sqrt{3}"),
    (r"2x^2y\sqrt{3}", r"2 x^{2} y \sqrt{3}"),
    ("3", r"3\ \mu\text{m}"),
    ("3", r"3\,\mathrm{\mu m}"),
    (r"3\text{ micrometers}", r"3\ \mu\mathrm{m}"),
    ("3 µm", r"3\,\mu\text{m}"),
    ("6", "6 litres d'eau"),
    ("6", r"6\text{ litres d'eau}"),
    ("6 litres", "6 litres d’eau"),
]
OTHER_SPELLING = [
    ("(1,2,3)", "<1,3,2>"),
    ("(1,2)", "1<2"),
    (r"(-\infty,2)\cup(2,\infty)", "all real numbers"),
    (r"(-\infty,2)\cup(2,\infty)", "all real numbers except 3"),
    (r"(-\infty,2)\cup(2,\infty)", r"\text{all real numbers except 2 and 3}"),
    (r"(-\infty,2)\cup(2,\infty)", r"\text{all integers except }2"),
    (r"(-\infty,2)\cup(2,\infty)", "all real numbers greater than 2"),
    ("2", r"\text{all real numbers except }2"),
    ("3", "3 to 8"),
    ("8", "3 to 8"),
    ("3:8", "8 to 3"),
    ("3-8", "3 to 8"),
    ("5", "3 to 8"),
    ("(0,2)", "(2;0)"),
    ("(0,2),(1,3)", "(0,1),(2,3)"),
    ("(0,2;1,3)", "(2,0),(3,1)"),
    ("0,2;1,3", "0,1;2,3"),
    ("2", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"),
    ("2", r"\det\begin{pmatrix}1&2&3\\3&4&5\end{pmatrix}"),
    ("5", r"\text{-}5"),
    ("5", r"\SI{50}{km}"),
    ("5 m/s", r"\SI{5}{\meter\second}"),
    ("5", r"\num{5}6"),
    (r"\frac{7}{12}", "\x0crac{7}{21}"),
    ("3:8", "3:8:1"),
    ("56", r"5\n6"),
    ("5", r"5\nu"),
    ("2", r"2\,400\,€/m^2"),
    ("400", r"2\,400\,€/m^2"),
    ("2401", r"2\,400\,€/m^2"),
    ("35", r"\$0.35/kWh"),
    ("3", r"\$3/4"),
    ("3", r"\$3/k"),
    ("12", "12/k"),
    (r"12\text{ dollars per hour}", "$12/kg"),
    ("0.35 €/kWh", "$0.35/kWh"),
    ("12345", r"12{,}\!346"),
    ("12", r"12{,}\!345"),
    ("2", "2 y 3"),
    ("3", "2 y 3"),
    ("6y", "2 y 3"),
    ("6y", "2 et 3"),
    ("2,4", "2 y 3"),
    ("2,-3", "2 y - 3"),
    ("3", r"3\mu"),
    ("3", r"3\mu m"),
    (r"3\mu", r"3\ \mu\text{m}"),
    (r"3\text{ mm}", r"3\ \mu\text{m}"),
    ("6", "6d'"),
    ("6", "6 litres d'eau ou 7"),
    ("2000", "2 e 3"),
]


@pytest.mark.parametrize(("gold", "answer"), SAME_SPELLING)
def test_spellings_of_the_same(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), OTHER_SPELLING)
def test_spellings_of_something_else(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is not Status.CORRECT
