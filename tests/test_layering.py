"""Imports point one way, and heavy libraries are imported only where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("rlnorm", "rewards", "trainers", "launch")
HEAVY = ("ray", "vllm", "deepspeed", "wandb", "peft", "datasets", "tensorboard", "plotly", "triton")
# the one place that may import each at module level, because nothing imports it but its user
HOMES = {
    "vllm": {"trainers/rollout/vllm_engine.py"},
    "deepspeed": {"trainers/learner/deepspeed_rank.py"},
    "triton": {"rlnorm/kernels/triton_backend.py"},
}


def modules():
    return [path for package in ORDER for path in sorted((ROOT / package).rglob("*.py"))]


def room(name: str) -> str:
    """The first of ORDER that an imported name lies in; "" for other libraries."""
    top, _, rest = name.partition(".")
    second = rest.partition(".")[0]
    return (second if second in ORDER[1:] else top) if top == "rlnorm" else ""


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Full dotted names."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_imports_to_the_right(path):
    package = path.relative_to(ROOT).parts[0]
    right = set(ORDER[ORDER.index(package) + 1 :])
    # the lower two stand apart: rewards is free of torch, so it may not use rlnorm either
    right |= {"rlnorm"} if package == "rewards" else set()
    assert not {room(name) for name in imported(path)} & right


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_inside_their_one_home(path):
    relative = str(path.relative_to(ROOT))
    homes = {name for name in HEAVY if relative in HOMES.get(name, set())}
    names = {name.partition(".")[0] for name in imported(path, top_level_only=True)}
    assert not names & (set(HEAVY) - homes)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("rlnorm.algorithms", ("ray", "vllm", "deepspeed", "transformers", "wandb", "rlnorm.rewards")),
        ("rewards", ("torch", "ray", "transformers", "rlnorm")),
        ("rlnorm.trainers.loop", ("ray", "vllm", "deepspeed", "wandb")),
        ("rlnorm.launch.cli", ("torch", "ray", "transformers", "numpy")),
    ],
)
def test_packages_import_with_heavy_ones_absent(module, absent):
    code = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\nimport {module}\n"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr


def test_files_and_functions_stay_small():
    long_files = [
        f"{p.relative_to(ROOT)}: {n}"
        for p in modules()
        if (n := len(p.read_text().splitlines())) > 400
    ]
    assert long_files == []
