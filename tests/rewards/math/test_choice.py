import pytest

from rlnorm.rewards.math.choice import choice_letter, labelled_letter, stated_letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        (r"\text{B}", "B"),
        (r"\text{Option B}", "B"),
        ("Option B or C", None),
        ("B.", "B"),
        (r"\textbf{(C)}", "C"),
        ("BC", None),
        ("x", None),
    ],
)
def test_choice_letter(text, letter):
    assert choice_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(A) 12", "A"),
        ("B. f(A) = 3", "B"),
        (r"\textbf{(C)}\ 12", "C"),
        ("(A) or (B)", None),
        ("(A)(B)(C)(D)", None),
        ("A. or B.", None),
        ("(A) and B", None),
    ],
)
def test_labelled_letter(text, letter):
    assert labelled_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is for sure D, it can't be A or B", "D"),
        ("The answer: D, it doesn't make sense for it to be A", "D"),
        ("D. it can't be A or B", "D"),
        ("I think the correct answer is C", "C"),
        ("All of them look right.", None),
        ("The answer is A, not B.", "A"),
        ("Option A is wrong. The answer is C.", "C"),
        ("The answer is not B.", None),
        ("The answer cannot be B", None),
        ("Option A is wrong, option B isn't it either, so C.", None),
        ("The answer is A or B.", None),
        ("The answer is both A and B", None),
        ("A, B", None),
    ],
)
def test_stated_letter(text, letter):
    assert stated_letter(text) == letter
