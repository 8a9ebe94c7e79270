"""make nightly keeps how the long tests ended; make test leaves them out."""

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
import pytest

@pytest.fixture
def broken_at_the_end():
    yield
    raise OSError

@pytest.mark.nightly
def test_good(): pass

@pytest.mark.nightly
def test_bad(): assert 1 == 2

@pytest.mark.nightly
def test_ends_badly(broken_at_the_end): pass

@pytest.mark.nightly
@pytest.mark.skip
def test_skipped(): pass

def test_of_every_day(): assert False
"""


def nightly(folder: Path, text: str) -> tuple[int, dict]:
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = nightly: long")
    command = [sys.executable, str(ROOT / "benchmarks" / "nightly.py"), "--out", "out.json", "-q"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads((folder / "out.json").read_text())


def test_the_outcome_is_kept_with_date_versions_and_hardware(tmp_path):
    status, kept = nightly(tmp_path, TESTS)
    assert status == kept["exit_status"] == 1
    assert (kept["passed"], kept["failed"], kept["skipped"]) == (1, 2, 1)
    assert kept["failed_tests"] == ["test_it.py::test_bad", "test_it.py::test_ends_badly"]
    assert date.fromisoformat(kept["date"])
    assert kept["versions"]["python"].startswith("3.")
    assert kept["hardware"]["cores"] > 0
    assert set(kept["seconds"]) == {f"test_it.py::test_{n}" for n in
                                    ("good", "bad", "ends_badly", "skipped")}  # fmt: skip


@pytest.mark.parametrize(("text", "status"), [("def test_a(): pass", 5), ("import nothing", 2)])
def test_a_night_without_a_test_or_with_an_unreadable_file_is_no_success(tmp_path, text, status):
    assert nightly(tmp_path, text)[0] == status


def test_make_test_leaves_them_out():
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = recipe[1].splitlines()
    assert len(lines) == 2
    assert all("not nightly" in line for line in lines)
