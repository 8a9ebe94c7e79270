import pytest

from rlnorm.rewards.math.normalize import clean_unicode, join_thousands, normalize, strip_dollars


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
