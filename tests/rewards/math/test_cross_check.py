"""Kinds of answer on which rlnorm and Math-Verify were seen to differ, each judged by hand.

`data/cross_check.jsonl` holds two right answers and two near misses of each kind; `math_verify` is
the verdict of Math-Verify 0.9.0, null where it finds no answer.
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.types import Status

LINES = Path(__file__).with_name("data").joinpath("cross_check.jsonl").read_text().splitlines()
CASES = [json.loads(line) for line in LINES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_verdict(case):
    verdict = verify(case["gold"], case["pred"])
    assert (verdict.status is Status.CORRECT) == case["expected"]


def test_every_kind_has_right_answers_and_near_misses():
    kinds = defaultdict(list)
    for case in CASES:
        kinds[case["category"]].append(case["expected"])
    assert len(kinds) == 33
    assert set(map(tuple, kinds.values())) == {(True, True, False, False)}
