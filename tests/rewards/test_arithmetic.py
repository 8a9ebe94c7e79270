"""Exact arithmetic on text: values, bounds, and the plain form that reports its numbers."""

import math
import time
from fractions import Fraction

import pytest

from rlnorm.rewards.arithmetic import CalculationError, calculate, calculate_plain, show


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("8-3-2", 3),
        ("16/4/2", 2),
        ("1/3", Fraction(1, 3)),
        ("0.1+0.2", Fraction(3, 10)),
        ("2**3**2", 512),
        ("-2**2", -4),
        ("2^-2", Fraction(1, 4)),
        ("--3", 3),
        (" .5 * 4 ", 2),
        ("0**0", 1),
        ("(-1)**1000000000001", -1),
        ("0**99999", 0),
    ],
)
def test_values(text, value):
    assert calculate(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "ends too early"),
        ("1+", "ends too early"),
        ("(1", "not closed"),
        ("1)", "unexpected"),
        ("1 2", "unexpected"),
        ("1/0", "division by zero"),
        ("0**-1", "division by zero"),
        ("2**0.5", "whole number"),
        ("9**9**9", "too large"),
        ("9" * 61, "unexpected"),
        ("*".join(["9" * 60] * 6), "too large|characters"),
        ("(" * 100 + "1" + ")" * 100, "nested deeper"),
        ("-" * 200 + "1", "nested deeper"),
        ("1+" * 300 + "1", "characters"),
        ("__import__('os')", "unexpected"),
        ("abs(1)", "unexpected"),
        ("1e9", "unexpected"),
        ("1,000", "unexpected"),
    ],
)
def test_refusals_are_quick_and_say_why(text, why):
    began = time.monotonic()
    if why == "too large|characters":
        text = "(" + text + ")**8"
    with pytest.raises(CalculationError, match=why):
        calculate(text)
    assert time.monotonic() - began < 0.5


def test_show():
    assert [show(Fraction(n, d)) for n, d in ((4, 2), (1, 3), (-1, 8))] == [
        "2",
        "0.333333333333",
        "-0.125",
    ]
    assert show(Fraction(10**400 + 1, 3)).startswith("333")


def test_numbers_stay_exact():
    assert calculate("99999999999999999999*99999999999999999999") == (10**20 - 1) ** 2
    assert math.isclose(calculate("22/7"), 22 / 7)


def test_plain_arithmetic_reports_its_numbers_in_order():
    assert calculate_plain("(8 - 3) * 8 / 2") == (20, [8, 3, 8, 2])


@pytest.mark.parametrize("text", ["-1", "2 - -1", "2**3", "2^3", "(+1)"])
def test_plain_arithmetic_has_no_signs_and_no_powers(text):
    with pytest.raises(CalculationError, match="unexpected"):
        calculate_plain(text)
