"""The mutation runner breaks what the tests import, and says so when they see nothing."""

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKING = "trainers/learner/packing.py"
EVERY = 40
"""The suite breaks each 40th line; every night breaks them all."""


def mutate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tests" / "mutate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=3000)


def test_every_mutation_names_code_and_a_test_that_are_there():
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "tests" / "mutate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rooms = Counter(name.partition("/")[0] for name, *_ in module.MUTATIONS)
    assert rooms["rewards"] + rooms["trainers"] >= 60 + 12
    gone = []
    for name, old, new, test in module.MUTATIONS:
        source = ROOT / name if name.partition("/")[0] in module.ROOMS else ROOT / "rlnorm" / name
        if old not in source.read_text():
            gone.append(f"{name} has no {old!r}")
        assert new != old
        assert (ROOT / module.test_path(name, test)).is_file(), test
    assert gone == []


@pytest.mark.slow
def test_a_sample_of_the_mutations_is_caught():
    result = mutate(f"every={EVERY}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert ", 0 missed" in result.stdout


def test_a_mutation_of_code_that_is_gone_ends_the_run():
    result = mutate(PACKING, "no such line", "x", "learner/test_packing.py")
    assert result.returncode == 1
    assert f"{PACKING} has no 'no such line'" in result.stderr


def test_a_mutation_of_code_that_runs_in_a_child_process_is_caught():
    result = mutate("rewards/worker.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 caught, 0 missed" in result.stdout


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_every_mutation_is_caught():
    result = mutate()
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_mutation_that_no_test_sees_is_missed():
    result = mutate(PACKING, "without padding", "with no padding", "learner/test_packing.py")
    assert result.returncode == 1, result.stderr
    assert f"MISSED {PACKING}" in result.stdout


def test_a_module_from_outside_the_copy_ends_the_run():
    result = mutate(
        PACKING, "import torch", "import torch; __file__ = '/x.py'", "learner/test_packing.py"
    )
    assert result.returncode == 1
    assert "imported from outside the copy" in result.stderr
    assert "does not test the copy" in result.stderr
    assert "caught" not in result.stdout
