"""In every style a right value is accepted, and a value near it refused."""

from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path

import pytest

from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

spec = spec_from_file_location("styles", Path(__file__).with_name("styles.py"))
styles = module_from_spec(spec)
spec.loader.exec_module(styles)

NUMBERED = [pytest.param(style, id=f"{at}") for at, style in enumerate(styles.STYLES)]


@pytest.fixture(scope="module")
def rows():
    if not styles.DATA.is_dir():
        pytest.skip(f"{styles.DATA} is not here")
    return styles.benchmark_rows()


def misses(style, rows):
    """How many responses there are, and those with a wrong verdict."""
    count, missed = 0, []
    for gold, response, right in styles.responses(style, rows):
        count += 1
        if (verify(gold, response).status is Status.CORRECT) != right:
            missed.append((gold, response, right))
    return count, missed


@pytest.mark.parametrize("style", NUMBERED)
def test_a_sample_of_the_rows(style, rows):
    count, missed = misses(style, rows[::8])
    assert count
    assert not missed


@pytest.mark.nightly
@pytest.mark.parametrize("style", NUMBERED)
def test_every_row(style, rows):
    count, missed = misses(style, rows)
    print(f"{style.text!r}: {count - len(missed)} of {count} verdicts are right")
    assert not missed


def test_the_rows_are_of_every_kind(rows):
    assert len(rows) == 200
    assert {row.kind for row in rows} == {"number", "math", "letter"}
    assert all(row.wrong and row.gold not in row.wrong for row in rows)


@pytest.mark.parametrize(
    ("gold", "wrong"),
    [
        ("18", ("-18", "28", "7")),
        ("-3", ("3", "-4", "7")),
        (r"\frac{1}{2}", (r"-\frac{1}{2}", r"\frac{2}{2}", "7")),
        ("[1,2)", ("[-1,2)", "[2,2)", "[2,1)", "(1,2]", "7")),
        ("1,-1", ("-1,-1", "2,-1", "7")),
        ("7", ("-7", "8")),
    ],
)
def test_wrong_values(gold, wrong):
    class First:
        def choice(self, places):
            return places[0]

    assert styles.wrong_values(gold, "7", First()) == wrong


def test_what_an_answer_is_worth():
    assert styles.worth(r"2\sqrt{3}") == styles.worth(r"\sqrt{12}") == 12
    assert styles.worth("-0.5") == styles.worth(r"-\frac{1}{2}") == -styles.worth("1/4") * 4
    assert styles.worth("1,2") == styles.worth("2, 1") != styles.worth("(1,2)")
    assert styles.worth("n+1") is None
    values = [styles.worth(text) for text in ("-2", "-1", "0", "1", r"\sqrt{2}", r"\infty")]
    assert all(low < high for low, high in pairwise(values))
