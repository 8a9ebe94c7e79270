import pytest

from rlnorm.rewards.math.compare import Policy, values_equal
from rlnorm.rewards.math.parse import parse
from rlnorm.rewards.math.relations import is_label, labelled_value, relations_equal


def equal(a, b):
    return values_equal(a, b, Policy())


@pytest.mark.parametrize(
    ("text", "label"), [("x", True), ("NO/BO", True), ("f(3)", True), ("x+1", False), ("5", False)]
)
def test_labels_name_a_quantity(text, label):
    assert is_label(parse(text)) == label


def test_the_value_behind_a_label():
    assert labelled_value(parse("x=5")) == parse("5")
    assert labelled_value(parse("5=x")) == parse("5")
    assert labelled_value(parse("x+1=5")) is None


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("x+y=1", "1=x+y", True),
        ("x<2y", "2y>x", True),
        ("x+y=1", "2x+2y=2", True),
        ("x<y", "-x>-y", True),
        ("x<y", "-x<-y", False),
        ("x+y=1", "2x+2y=3", False),
    ],
)
def test_the_same_relation_in_another_shape(gold, answer, same):
    assert relations_equal(parse(gold), parse(answer), equal) == same
