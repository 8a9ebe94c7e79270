"""What the documentation shows runs as shown, and what it links to exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples/README.md"]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_relative_links_point_at_files(page):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_estimator_of_the_docs_passes_the_kit_and_trains(tmp_path):
    plugin, from_python, check = blocks("write_an_estimator.md", "python")
    (tmp_path / "mine.py").write_text("import torch\n" + plugin)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    options = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "timeout": 300}
    for code in (from_python, check):
        result = subprocess.run([sys.executable, "-c", code], **options)
        assert result.returncode == 0, result.stderr
    estimator = "algorithm.estimator={name: 'mine.py:best_of_group', margin: 0.1}"
    small = ["steps=1", "data.eval={}", "data.train_limit=64", "rollout.prompts_per_step=4"]
    command = [sys.executable, "-m", "rlnorm.launch.cli", "train", "quickstart", estimator, *small]
    result = subprocess.run(command, **options)
    assert result.returncode == 0, result.stderr
