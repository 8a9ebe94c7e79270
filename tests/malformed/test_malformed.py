"""Malformed rows, configs, models and rewards end in one line; all of them nightly, some here."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from malformed import CASES, Outcome, run
from malformed.models import SHIPPED

SAMPLE = list(CASES)[:: -(-len(CASES) // 30)]


def outcome(name: str) -> Outcome:
    with TemporaryDirectory() as folder:
        return run(CASES[name], Path(folder), SHIPPED)


def test_there_are_as_many_as_the_documentation_says():
    assert len(CASES) >= 300
    assert {name.partition("/")[0] for name in SAMPLE} == {"rows", "settings", "models", "code"}


@pytest.mark.parametrize("name", SAMPLE)
def test_a_malformed_input_is_one_line(name):
    ended = outcome(name)
    assert ended.faults == (), ended.line


@pytest.mark.nightly
def test_every_malformed_input_is_one_line():
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(CASES, pool.map(outcome, CASES), strict=True))
    slow = sorted(((o.seconds, name) for name, o in ended.items()), reverse=True)
    print(f"{len(CASES)} inputs; the slowest: {slow[:5]}")
    wrong = {name: (o.faults, o.line[:300]) for name, o in ended.items() if o.faults}
    assert wrong == {}
