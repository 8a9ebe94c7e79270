"""The how-to in docs/ is run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "write_a_reward.md"


def test_the_how_to_runs(tmp_path):
    if not PAGE.is_file():
        pytest.skip(f"{PAGE} is not here")
    module, test, use = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "my_rewards.py").write_text(module)
    (tmp_path / "use.py").write_text(test + use)
    done = subprocess.run(
        [sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    # 16 of 64 tokens: 1 - 16/64
    assert done.stdout.splitlines() == [
        "({'score': 0.75},)",
        "{'correct': (1.0, 'correct'), 'format': (1.0, 'correct'), 'brevity': (0.75, 'correct')}",
    ]


def test_every_built_in_resolves_and_is_named_in_the_page():
    from rewards.calls import load_object
    from rewards.registry import BUILTINS

    page = PAGE.read_text() if PAGE.is_file() else ""
    for name, reference in BUILTINS.items():
        assert callable(load_object(reference, name))
        if reference.split(":")[0].split(".")[1] in ("math", "match", "format", "length", "schema"):
            assert f"`{name}`" in page
