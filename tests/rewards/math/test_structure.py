import pytest

from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

RIGHT = [
    (r"(-\infty,-1)\cup(2,\infty)", r"x<-1 \text{ or } x>2"),
    (r"(0,1)\cup(2,3)", r"0<x<1, 2<x<3"),
    (r"(-\infty,0)\cup(0,1)\cup(1,\infty)", r"\mathbb{R}\setminus\{1,0\}"),
    (r"x\ne 0", r"\mathbb{R}\setminus\{0\}"),
    (r"(2,\infty)", r"\{x\in\mathbb{R} \mid x>2\}"),
    ("(1,2)", r"\langle 1,2\rangle"),
    (r"\langle 1,2\rangle", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ("(2,3)", "y=3, x=2"),
    ("(2,3)", "k=2, a=3"),
    (r"2\sqrt3", r"2\sqrt{3} \approx 3.464"),
    ("3.464", r"2\sqrt{3} \approx 3.464"),
    (r"\frac13", r"x=\frac13\approx 0.33"),
    ("5", r"\textcolor{red}{5}"),
    ("5", r"\Large 5"),
    ("5", r"\text{Answer: }5"),
    ("5", "m+n=5"),
    ("45", r"\textbf{(C)}\ 45"),
    ("45", "C. 45"),
    ("3:4", r"\frac{3}{4}"),
    ("1000000", r"1\;000~000"),
    ("1500", "1.5 x 10^3"),
    ("8", r"\begin{aligned}x&=3+5\\&=8\end{aligned}"),
    ("x=1, y=2", r"\begin{aligned}x&=1\\y&=2\end{aligned}"),
    ("(1,2)", r"\begin{cases}x=1\\y=2\end{cases}"),
    ("x=2, x=-2", r"x=\pm2"),
    (r"\mathbb{R}", r"\text{all real numbers}"),
    (r"\emptyset", r"\text{No solution}"),
    (r"x\ne2", r"\mathbb{R}-\{2\}"),
    ("2023-01-02", r"\text{2023-01-02}"),
    ("[-1,1]", r"1\ge|x|"),
    ("|x|>1", r"x<-1 \text{ or } x>1"),
    ("1<|x|<2", r"(-2,-1)\cup(1,2)"),
    (r"[0,\infty)\cap\mathbb{Z}", r"[0,\infty)\cap\mathbb Z"),
    ("5", r"\color{red}5"),
    (r"\sqrt{2}:1", r"2:\sqrt2"),
    (r"\sqrt{2}:1", r"\sqrt{6}:\sqrt{3}"),
    (r"1:\pi", r"2:2\pi"),
    ("x:y:2", "3x:3y:6"),
    (r"1:\sqrt2:\sqrt3", r"\sqrt2:2:\sqrt6"),
]
WRONG = [
    (r"(-\infty,-1)\cup(2,\infty)", r"x<-1 \text{ or } y>2"),
    (r"(-\infty,-1)\cup(2,\infty)", r"x\le -1 \text{ or } x>2"),
    (r"\mathbb{R}", r"x<2 \text{ and } x>1"),
    (r"(-\infty,0)\cup(0,\infty)", r"\mathbb{R}\setminus\{1\}"),
    (r"(2,\infty)", r"\{2x \mid x>2\}"),
    (r"(2,\infty)", r"\{x\in\mathbb{Z} \mid x>2\}"),
    ("(2,3)", "y=2, x=3"),
    ("(1,2)", r"\langle 2,1\rangle"),
    (r"\sqrt2", r"\sqrt2 \approx 1.5"),
    ("499", r"499 \approx 500"),
    ("5", "m+2n=5"),
    ("x+y=0", "0"),
    ("45", "(C) 46"),
    ("45", "(C) 45, (D) 46"),
    ("3:4", r"\frac{4}{3}"),
    ("2", "4:2:1"),
    ("3", r"\begin{aligned}3\\4\end{aligned}"),
    (r"x=\pm2", "x=2"),
    (r"y=\pm2x", "y=-2x"),
    ("f'(x)=2x", "f(x)=2x"),
    ("x'", "x"),
    ("e_1", "e_2"),
    (r"\mathbb{R}", r"\text{all integers}"),
    ("2023-01-02", "2023-02-01"),
    ("[-1,1]", "|x|<1"),
    ("[-1,1]", r"|x|\ge-1"),
    (r"(-\infty,-1]\cup[1,\infty)", "|x|>1"),
    ("|x|>1", "|y|>1"),
    ("|x|>1", "x>1"),
    ("12/6/2020", "6/3/2020"),
    ("500", r"499 \approx 500"),
    (r"\sqrt{2}:1", r"\sqrt{2}:2"),
    (r"\sqrt{2}:1", r"1:\sqrt{2}"),
    (r"\sqrt{2}:1", r"2:\sqrt3"),
    ("x:y:2", "2x:y:2"),
    ("1:2", r"\sqrt2-\sqrt2:\sqrt3-\sqrt3"),
    (r"1:\sqrt2:\sqrt3", r"\sqrt2:2:\sqrt5"),
    ("1:1", r"\pm\sqrt2:\sqrt2"),
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_the_same_in_another_shape(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.CORRECT


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_near_miss_of_a_shape(gold, answer):
    assert verify(gold, f"\\boxed{{{answer}}}").status is Status.WRONG
