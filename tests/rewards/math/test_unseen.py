"""Cases written from the documentation alone, before the verifier had met them."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

spec = spec_from_file_location("unseen", Path(__file__).with_name("unseen.py"))
unseen = module_from_spec(spec)
spec.loader.exec_module(unseen)


@pytest.mark.parametrize("case", unseen.read_cases(), ids=lambda case: case["id"])
def test_verdict(case):
    assert unseen.is_right(case)
