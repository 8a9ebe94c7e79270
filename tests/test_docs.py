"""What the documentation shows runs as shown, and what it links to exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlnorm.algorithms import resolve_algorithm
from rlnorm.trainers.config.load import validate_config
from rlnorm.trainers.config.resolve import algorithm_slots

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


def pages_of(nav: object) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    inside = nav.values() if isinstance(nav, dict) else nav
    return set().union(*map(pages_of, inside))


def test_every_page_is_in_the_navigation_of_the_site():
    docs = ROOT / "docs"
    nav = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert {p.relative_to(docs).as_posix() for p in docs.rglob("*.md")} - nav == set()


def test_the_architecture_page_names_every_file_of_trainers_and_no_other():
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+?)(?:\.py)?`", page))
    stems = {name.rpartition("/")[2] for name in named}
    modules = {p.stem for p in (ROOT / "trainers").rglob("*.py")} - {"__init__"}
    assert modules - stems == set()
    paths = re.findall(r"`((?:rlnorm|rewards|trainers|launch)/[\w/]+\.py)`", page)
    assert [path for path in paths if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("page", ["../README.md", "coming_from_trl.md", "coming_from_verl.md"])
def test_the_configs_of_a_page_are_valid(page):
    least = {
        "model": {"path": "shipped:quick"},
        "data": {"train": "task:chain"},
        "rewards": [{"name": "correct", "function": "math"}],
    }
    found = blocks(page, "yaml")
    assert found
    for block in found:
        resolve_algorithm(*algorithm_slots(validate_config(least | yaml.safe_load(block))))


def test_troubleshooting_quotes_messages_that_the_code_has():
    """What stands in the first column and reads like a message, "..." for what differs."""
    sources = [
        p for f in ("rlnorm", "rewards", "trainers", "launch") for p in (ROOT / f).rglob("*.py")
    ]
    code = "".join(p.read_text() for p in sources) + (ROOT / "Makefile").read_text()
    code = re.sub(r'"\s*f?"', "", code)  # a text over several lines
    rows = re.findall(
        r"^\| (`[^|]+`[^|]*) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.M
    )
    quoted = [q for row in rows for q in re.findall(r"`([^`]+)`", row) if " " in q]
    parts = [part.strip() for q in quoted for part in q.split("...") if part.strip()]
    assert len(parts) > 40
    assert [part for part in parts if part not in code] == []


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


def test_from_python_trains_with_functions_of_a_script_and_in_a_loop_of_its_own(tmp_path):
    (tmp_path / "script.py").write_text("\n".join(blocks("from_python.md", "python")))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    *_, ended, first, _, _, last = done.stdout.splitlines()
    assert ended.startswith("done ")
    assert ended.endswith("runs/from_python/checkpoints/step_000002")
    shares = [float(re.search(r"'boxed_exact': ([\d.]+)", line)[1]) for line in (first, last)]
    assert shares[0] < 0.25
    assert shares[1] > 0.5


def test_every_check_that_the_page_promises_has_its_test():
    page, file, missing = (ROOT / "docs/checks.md").read_text(), "", []
    rows = [line for line in page.splitlines() if line.startswith("|")]
    promises = [row for row in rows if "::" in row]
    assert len(promises) == len(rows) - 2 * page.count("|---|---|---|")
    for path, name in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", "\n".join(promises)):
        file = path or file
        if not re.search(rf"^(async )?def {name}\b", (ROOT / file).read_text(), re.MULTILINE):
            missing.append(f"{file}::{name}")
    assert missing == []
