"""What holds of every verdict, tried on texts that hypothesis makes up."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

BOUND_S = 2.0
LINES = Path(__file__).with_name("data").joinpath("cross_check.jsonl").read_text().splitlines()
CASES = [json.loads(line) for line in LINES]
PIECES = [
    *("\\frac", "\\sqrt", "\\left", "\\right", "\\text{", "\\boxed{", "\\begin{pmatrix}", "\\over"),
    *("\\end{pmatrix}", "\\pm ", "\\cup ", "\\log_", "\\int_", "\\sum_{k=1}^{", "\\overline{"),
    *("{", "}", "(", ")", "[", "]", "^", "_", "|", ",", ";", ":", "=", "<", "!", "&", "$", "~"),
    *("\\\\", "\\", "#### ", "Answer: ", "<think>", "</think>", "<|im_end|>", "万", "½", "\u0663"),
    *("9" * 40, "0.", "e9", "'", "\0", "\ud800", "\u202e", "\N{ZERO WIDTH SPACE}", "\n\n"),
]
SUITE = settings(max_examples=400, derandomize=True, deadline=None, database=None)
NIGHTLY = settings(max_examples=20_000, deadline=None, database=None)


@st.composite
def damaged(draw):
    """A text of the cases with pieces put in, taken out or said twice."""
    text = draw(st.sampled_from(CASES))[draw(st.sampled_from(["gold", "pred"]))]
    for _ in range(draw(st.integers(1, 5))):
        at, gone = draw(st.integers(0, len(text))), draw(st.integers(0, 6))
        new = draw(st.sampled_from(PIECES) | st.just(text[at : at + gone] * 2))
        text = text[:at] + new + text[at + gone :]
    return text


def boxed(text):
    return f"\\boxed{{{text}}}"


raw = st.binary(max_size=200).map(lambda found: found.decode("utf-8", "surrogateescape"))
texts = st.text(st.characters(exclude_categories=())) | raw | damaged()
responses = texts | texts.map(boxed)


def gives_a_verdict(gold, response):
    start = time.process_time()
    verdict = verify(gold, response)
    assert time.process_time() - start < BOUND_S
    assert isinstance(verdict.status, Status)


@SUITE
@given(gold=texts, response=responses)
def test_every_text_gets_a_verdict(gold, response):
    gives_a_verdict(gold, response)


@pytest.mark.nightly
@NIGHTLY
@given(gold=texts, response=responses)
def test_many_texts_get_a_verdict(gold, response):
    gives_a_verdict(gold, response)


whole = st.integers(-99, 99_999).map(str)
fractions = st.tuples(st.integers(1, 99), st.integers(2, 99)).map(
    lambda p: f"\\frac{{{p[0]}}}{{{p[1]}}}"
)
roots = st.tuples(st.integers(2, 9), st.integers(2, 99)).map(lambda p: f"{p[0]}\\sqrt{{{p[1]}}}")
terms = st.tuples(st.integers(2, 9), st.sampled_from("xnk")).map(lambda p: f"{p[0]}{p[1]}+1")
numbers = whole | fractions | roots
several = st.lists(numbers, min_size=2, max_size=4).map(", ".join)
ends = st.tuples(st.integers(-9, 0), st.integers(1, 9)).map(lambda p: f"{p[0]},{p[1]}")
shapes = (
    numbers
    | terms
    | several.map("({})".format)
    | several.map("\\{{{}\\}}".format)
    | st.tuples(st.sampled_from("(["), ends, st.sampled_from(")]")).map("".join)
    | numbers.map("x={}".format)
    | several.map(lambda text: "\\begin{pmatrix}" + text.replace(", ", "\\\\") + "\\end{pmatrix}")
)
golds = st.sampled_from([case["gold"] for case in CASES if case["expected"]])


@SUITE
@given(gold=shapes)
@example(gold="7^{7^{7^7}}")
def test_an_answer_equals_itself(gold):
    assert verify(gold, boxed(gold)).status is Status.CORRECT
    # written otherwise, so that not only the texts are compared
    assert verify(gold, boxed(f"\\displaystyle\\,{gold}")).status is Status.CORRECT


@SUITE
@given(gold=texts)
def test_a_text_never_differs_from_itself(gold):
    verdict = verify(gold, boxed(gold))
    # the text may end the box, or hold another
    assume(verdict.answer and "boxed" not in gold)
    assert verdict.status is not Status.WRONG


@SUITE
@given(pair=st.tuples(shapes, shapes) | numbers.flatmap(lambda n: st.tuples(st.just(n), numbers)))
def test_equality_does_not_depend_on_which_is_the_reference(pair):
    first, second = pair
    forth = verify(first, boxed(second)).status is Status.CORRECT
    back = verify(second, boxed(first)).status is Status.CORRECT
    assert forth == back
