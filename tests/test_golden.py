"""The golden cases, when they lie beside the repository."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no golden numbers in {SHARED}")
@pytest.mark.parametrize(("folder", "least"), [("golden", 150), ("golden_options", 4)])
def test_all_golden_cases_pass(folder, least):
    command = [sys.executable, "tests/golden.py", str(SHARED / folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    last = done.stdout.strip().splitlines()[-1]
    passed, failed = (int(part.split()[0]) for part in last.split(", "))
    assert done.returncode == 0, done.stdout + done.stderr
    assert failed == 0
    assert passed >= least


def test_a_wrong_number_fails(tmp_path):
    case = '{"name": "x", "inputs": {"loss_mat": [[1.0, 3.0]], "mask": [[1, 1]]}, '
    case += '"params": {"mode": "token-mean"}, "expected": {"loss": 2.5}}'
    (tmp_path / "a.json").write_text(f'{{"method": "loss_aggregation", "cases": [{case}]}}')
    command = [sys.executable, "tests/golden.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "largest difference 0.2" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "0 passed, 1 failed"
