import pytest

from rlnorm.rewards.math.budget import MAX_DIGITS, MAX_TOKENS, OverBudget, Unparsable
from rlnorm.rewards.math.tokens import tokenize


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("1+2x", ["num", "op", "num", "name", "end"]),
        ("1.5e2", ["num", "end"]),
        (r"\sqrt{2}", ["fn", "op", "num", "op", "end"]),
        ("5%", ["num", "percent", "end"]),
        ("5 percent", ["num", "percent", "end"]),
        (r"\frac12", ["cmd", "num", "end"]),
        ("", ["end"]),
    ],
)
def test_kinds(text, kinds):
    assert [token.kind for token in tokenize(text)] == kinds


def test_a_number_word_is_a_factor():
    assert [token.text for token in tokenize("3 million")] == ["3", "*", "1e6", ""]


@pytest.mark.parametrize(
    ("fits", "too_much"),
    [("1" * MAX_DIGITS, "1"), ("+" * MAX_TOKENS, "+")],
    ids=["digits", "tokens"],
)
def test_what_is_over_budget_is_refused(fits, too_much):
    assert len(tokenize(fits)) > 1
    with pytest.raises(OverBudget):
        tokenize(fits + too_much)


def test_white_space_is_noted_with_the_token_after_it():
    assert [(t.text, t.spaced) for t in tokenize("3 + x")][:3] == [
        ("3", False), ("+", True), ("x", True),
    ]  # fmt: skip


def test_an_unknown_character_is_named():
    with pytest.raises(Unparsable, match="character '§'"):
        tokenize("3§4")
