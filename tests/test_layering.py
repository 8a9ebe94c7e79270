"""Imports point one way and in no circle; heavy libraries are imported only where used."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("rlnorm", "rewards", "trainers", "launch")
"""The four source folders; each may import those before it."""
BASE = {"rlnorm.errors", "rlnorm.from_python", "rlnorm.lookup", "rlnorm.options"}
"""What rewards may import of rlnorm: everything else there may load torch."""
TRAINERS = (
    "errors", "seeds", "files", "stop", "tasks", "config", "record", "models", "cluster", "rollout",
    "prompts", "template_checks", "prompt_stream", "learner", "scoring", "sync", "advantages",
    "checkpoint", "buffer", "collect", "prepare", "build_cluster", "evaluate", "loop", "build",
    "run", "api", "compare", "",
)  # fmt: skip
"""Rooms and files of trainers/; each may import those before it. The last is its __init__."""
HEAVY = ("ray", "vllm", "deepspeed", "wandb", "peft", "datasets", "tensorboard", "plotly", "triton")
# the one place that may import each at module level, because nothing imports it but its user
HOMES = {
    "vllm": {"trainers/rollout/vllm_engine.py"},
    "deepspeed": {"trainers/learner/deepspeed_rank.py"},
    "triton": {"rlnorm/kernels/triton_backend.py"},
}
REFERENCE = re.compile(r"(rlnorm(?:\.\w+)+)(?::\w+)?")


def files(root: Path = ROOT) -> dict[str, Path]:
    """Source file by module name."""
    found = {}
    for package in ORDER:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            name = name if package == "rlnorm" else f"rlnorm.{name}"
            found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Full dotted names, wherever they are imported in the file."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def named(path: Path) -> set[str]:
    """Modules that strings of the file name, such as "rlnorm.rewards.match:exact"."""
    strings = {node.value for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip
    return {match[1] for text in strings if (match := REFERENCE.fullmatch(text))}


def uses(path: Path, modules: dict[str, Path]) -> set[str]:
    """Our modules that a file imports, in functions and under TYPE_CHECKING too, or names."""
    own = {name for name, file in modules.items() if file == path}
    found = set()
    for name in imported(path) | named(path):
        parent = name.rpartition(".")[0]
        found |= {name} if name in modules else {parent} & modules.keys()
    return found - own


def place(module: str) -> tuple[int, int]:
    """Where a module stands in the order: folder, and in trainers/ the room."""
    parts = [*module.split("."), ""]
    folder = parts[1] if parts[1] in ORDER[1:] else "rlnorm"
    return ORDER.index(folder), TRAINERS.index(parts[2]) if folder == "trainers" else 0


def to_the_right(module: str, modules: dict[str, Path]) -> set[str]:
    """What a module uses and may not."""
    mine = place(module)
    wrong = {name for name in uses(modules[module], modules) if place(name) > mine}
    if mine[0] == ORDER.index("rewards"):
        wrong |= {n for n in uses(modules[module], modules) if place(n)[0] == 0} - BASE
    return wrong


@pytest.mark.parametrize("module", files())
def test_nothing_imports_to_the_right(module):
    assert to_the_right(module, files()) == set()


def test_no_module_uses_itself_by_way_of_others():
    modules = files()
    graph = TopologicalSorter({name: uses(path, modules) for name, path in modules.items()})
    try:
        graph.prepare()
    except CycleError as error:
        pytest.fail(" uses ".join(reversed(error.args[1])))


@pytest.mark.parametrize(
    ("importer", "text", "wrong"),
    [
        ("trainers/seeds.py", "import rlnorm.launch.cli", "rlnorm.launch.cli"),
        ("trainers/seeds.py", "def f():\n    from rlnorm.launch import cli", "rlnorm.launch.cli"),
        ("trainers/config/x.py", "from rlnorm.trainers import loop", "rlnorm.trainers.loop"),
        ("trainers/seeds.py", "HOME = 'rlnorm.trainers.loop:train'", "rlnorm.trainers.loop"),
        ("rewards/text.py", "from rlnorm.groups import f", "rlnorm.groups"),
        ("rlnorm/x.py", "if TYPE_CHECKING:\n    import rlnorm.rewards.text", "rlnorm.rewards.text"),
    ],
)
def test_an_import_to_the_right_is_seen(tmp_path, importer, text, wrong):
    for name in {importer, *(f"{n}.py" for n in ("launch/cli", "trainers/loop", "rlnorm/groups")),
                 "rewards/text.py"}:  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / importer).write_text(text)
    modules = files(tmp_path)
    [module] = [name for name, path in modules.items() if path == tmp_path / importer]
    assert to_the_right(module, modules) == {wrong}


@pytest.mark.parametrize("path", files().values(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_inside_their_one_home(path):
    relative = str(path.relative_to(ROOT))
    homes = {name for name in HEAVY if relative in HOMES.get(name, set())}
    names = {name.partition(".")[0] for name in imported(path, top_level_only=True)}
    assert not names & (set(HEAVY) - homes)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("rlnorm.algorithms", ("ray", "vllm", "deepspeed", "transformers", "rlnorm.rewards")),
        ("rlnorm.rewards", ("torch", "ray", "transformers", "rlnorm.algorithms")),
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


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_files_and_functions_stay_small():
    lengths = {p.relative_to(ROOT): len(p.read_text().splitlines()) for p in files().values()}
    assert {str(p): n for p, n in lengths.items() if n > 400} == {}
    assert sorted(lengths.values())[len(lengths) // 2] <= 120
    long_functions = {
        f"{path.relative_to(ROOT)}:{f.name}": lines
        for path in files().values()
        for f in functions(ast.parse(path.read_text()))
        if f.end_lineno is not None and (lines := f.end_lineno - f.lineno + 1) > 55
    }
    assert long_functions == {}
