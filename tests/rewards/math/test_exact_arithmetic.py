"""Verdicts on random expressions are those of arithmetic with fractions."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random

import pytest

from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

spec = spec_from_file_location("expressions", Path(__file__).with_name("expressions.py"))
expressions = module_from_spec(spec)
spec.loader.exec_module(expressions)

OPERATORS = [
    pytest.param(expressions.SMOOTH, id="smooth"),
    pytest.param(expressions.STEPPED, id="with floors"),
]


def wrong_verdicts(operators, seeds):
    missed = []
    for seed in seeds:
        if pair := expressions.random_pair(operators, Random(seed)):
            gold, answer, equal = pair
            for reference, said in ((gold, answer), (answer, gold)):
                verdict = verify(reference, f"\\boxed{{{said}}}")
                if (verdict.status is Status.CORRECT) != equal:
                    missed.append((reference, said, equal, verdict.status))
    return missed


@pytest.mark.parametrize("operators", OPERATORS)
def test_a_thousand_pairs(operators):
    assert wrong_verdicts(operators, range(1000)) == []


@pytest.mark.nightly
@pytest.mark.parametrize("operators", OPERATORS)
def test_many_pairs(operators):
    assert wrong_verdicts(operators, range(1000, 21_000)) == []


def test_half_of_the_pairs_are_equal():
    pairs = [expressions.random_pair(expressions.SMOOTH, Random(seed)) for seed in range(1000)]
    pairs = [pair for pair in pairs if pair]
    assert len(pairs) > 900
    assert 0.4 < sum(equal for _, _, equal in pairs) / len(pairs) < 0.65


def test_value_and_latex_of_a_tree():
    tree = ("/", ("+", ("name", "x"), ("number", 3)), ("floor", ("name", "n")))
    at = {"x": expressions.Fraction(5), "n": expressions.Fraction(9, 2)}
    assert expressions.value(tree, at) == 2
    assert expressions.latex(tree) == "\\frac{(x+3)}{\\lfloor n\\rfloor}"
