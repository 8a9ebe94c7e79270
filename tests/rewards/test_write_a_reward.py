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
    from rlnorm.lookup import load_object
    from rlnorm.rewards.registry import BUILTINS

    page = PAGE.read_text() if PAGE.is_file() else ""
    for name, reference in BUILTINS.items():
        assert callable(load_object(reference, name))
        assert f"`{name}`" in page


def test_the_rewards_of_the_page_are_what_a_config_takes():
    import yaml

    from rlnorm.rewards.spec import parse_spec
    from rlnorm.trainers.config.schema import RewardConfig

    [table] = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    specs = [
        parse_spec(RewardConfig(**row).model_dump(exclude_none=True), "rewards")
        for row in yaml.safe_load(table)["rewards"]
    ]
    assert specs[0].weight == {"format": 0.1, "correctness": 1.0}
    assert specs[1].deadline_s == 30
