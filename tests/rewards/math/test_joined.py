import pytest

from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

RIGHT = [
    (r"\{2,-5\}", r"so $x=\boxed{2}$, or else $x=\boxed{-5}$."),
    (r"\{2,-5\}", r"\boxed{2} or \boxed{-5}"),
    (r"\{2,-5\}", r"The roots are \boxed{2} and \boxed{-5}."),
    (r"\{2,-5\}", r"the first root is \boxed{2} and the second one is \boxed{-5}."),
    (r"\{2,-5\}", r"$x_1=\boxed{2}$ and $x_2=\boxed{-5}$"),
    (r"\{2,-5\}", r"$x_{1}=\boxed{2},\ x_{2}=\boxed{-5}$"),
    (r"\{2,-5\}", r"x = \boxed{2} oder x = \boxed{-5}"),
    (r"\{2,-5\}", r"x = \boxed{2} ou x = \boxed{-5}"),
    (r"\{2,-5\}", r"$\boxed{2}$ y $\boxed{-5}$"),
    (r"\{2,-5\}", r"\boxed{2}或\boxed{-5}"),
    (r"\{2,-5\}", r"x=\boxed{2}，或者 x=\boxed{-5}"),
    (r"\{2,-5\}", r"\boxed{2}、\boxed{-5}"),
    (r"\{2,-5\}", r"\boxed{2} \text{ or } \boxed{-5}"),
    (r"\{2,-5\}", r"\boxed{2} & \boxed{-5}"),
    (r"\{2,-5\}", r"either \boxed{2} or, if x<0, \boxed{-5}"),
    (r"\{2,-5\}", r"(a) \boxed{2}, (b) \boxed{-5}"),
    ("1,2,3", r"\boxed{1}, \boxed{2}, and \boxed{3}"),
    ("1,2,3", r"\boxed{1}, \boxed{2} and also \boxed{3}."),
    (r"\{2,-5\}", r"\boxed{2} \quad\text{and}\quad \boxed{-5}"),
    (r"\{2,-5\}", r"$x=\boxed{2}$ as well as and $x=\boxed{-5}$"),
    ("6", r"\boxed{5}. Wait, that is wrong. \boxed{6}"),
    ("6", r"\boxed{5} No wait, it is \boxed{6}"),
    ("6", r"\boxed{5}, or rather \boxed{6}"),
    ("6", r"\boxed{5} is wrong and \boxed{6} is right"),
    ("6", r"\boxed{5}, so the answer is \boxed{6}"),
    ("6", r"\boxed{5} and therefore \boxed{6}"),
    ("6", r"\boxed{5}, but actually \boxed{6}"),
    ("6", r"\boxed{3} and doubling gives \boxed{6}"),
    ("6", r"\boxed{2} and then \boxed{6}"),
    ("6", r"\boxed{6} or \boxed{6}"),
    ("1/2", r"\boxed{\frac12} or equivalently \boxed{0.5}"),
    ("6", r"\boxed{4} and $2+4=\boxed{6}$"),
    ("6", r"\boxed{5} 不对，应该是 \boxed{6}"),
    (r"\{2,-5\}", r"so $\boxed{2}$ as well as $\boxed{-5}$"),
    (r"\{2,-5\}", r"\boxed{2} along with \boxed{-5}"),
    (r"\{2,-5\}", r"$x=\boxed{2}$ sowie $x=\boxed{-5}$"),
    (r"\{2,-5\}", r"\boxed{2} ainsi que \boxed{-5}"),
    (r"\{2,-5\}", r"\boxed{2} así como \boxed{-5}"),
    (r"\{2,-5\}", r"\boxed{2}, а также \boxed{-5}"),
    ("6", r"\boxed{5} looks well, so \boxed{6}"),
]
WRONG = [
    ("-5", r"x=\boxed{2}, or else x=\boxed{-5}"),
    ("2", r"\boxed{2} and \boxed{-5}"),
    ("-5", r"the first is \boxed{2} and the other is \boxed{-5}"),
    (r"\{2,-5\}", r"\boxed{2}. Hmm, or is it \boxed{-5}?"),
    (r"\{2,-5\}", r"\boxed{2} or \boxed{5}"),
    (r"\{2,-5\}", r"\boxed{2}, no, \boxed{-5}"),
    ("5", r"\boxed{5}, so the answer is \boxed{6}"),
    ("5", r"\boxed{5}. Wait, \boxed{6}"),
    ("5", r"\boxed{5} or rather \boxed{6}"),
    ("5", r"\boxed{5}, but \boxed{6}"),
    ("6", r"\boxed{5} or \boxed{6}"),
    ("5", r"\boxed{5} 或 \boxed{6}"),
    ("6", r"\boxed{5} oder \boxed{6}"),
    ("6", r"x=\boxed{5}, y=\boxed{6}"),
    ("3", r"\boxed{2} as well as \boxed{3}"),
    ("2", r"\boxed{2} as well as \boxed{3}"),
    (r"\{2,3\}", r"\boxed{2} as well as \boxed{4}"),
    (r"\{2,3\}", r"\boxed{2}. Well, \boxed{3}"),
    (r"\{2,3\}", r"\boxed{2} is as well wrong, so \boxed{3}"),
]


@pytest.mark.parametrize(("gold", "response"), RIGHT)
def test_boxes_of_one_sentence(gold, response):
    assert verify(gold, response).status is Status.CORRECT


@pytest.mark.parametrize(("gold", "response"), WRONG)
def test_boxes_of_one_sentence_but_not_the_gold(gold, response):
    assert verify(gold, response).status is not Status.CORRECT
