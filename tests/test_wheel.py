"""The built wheel, installed apart from the source tree, is what users get."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    # built from a copy, so that no build folder is left in the tree
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in files:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True, timeout=300)
    return target


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=installed.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_wheel_holds_every_package_preset_and_model(installed):
    code = (
        "import rlnorm, rlnorm.configs as c, pathlib;"
        "print(pathlib.Path(rlnorm.__file__).parent.parent);"
        "from rlnorm.trainers.config.schema import load_config; load_config('quickstart');"
        "from rlnorm.trainers.tasks import shipped_model;"
        "print(shipped_model('quick'), shipped_model('graded'))"
    )
    result = run(installed, "-c", code)
    assert result.returncode == 0, result.stderr
    assert str(installed) in result.stdout.splitlines()[0]
    expected = {
        str(p.relative_to(ROOT) if package == "rlnorm" else "rlnorm" / p.relative_to(ROOT))
        for package in ("rlnorm", "rewards", "trainers", "launch")
        for p in (ROOT / package).rglob("*")
        if p.is_file() and p.suffix in (".py", ".cpp", ".h", ".c", ".typed")
    }
    assert "rlnorm/py.typed" in expected  # its one marker holds for rlnorm.trainers and the others
    missing = [name for name in sorted(expected) if not (installed / name).is_file()]
    assert missing == []


@pytest.mark.slow
def test_two_steps_of_training_from_the_installed_wheel(installed, tmp_path):
    overrides = ["steps=2", "eval_samples=1", f"output_dir={tmp_path}", "run_name=w"]
    result = run(installed, "-m", "rlnorm.launch.cli", "train", "quickstart", *overrides)
    assert result.returncode == 0, result.stderr
    run_dir = tmp_path / "w"
    assert (run_dir / "report.html").stat().st_size > 1_000_000
    assert len((run_dir / "metrics.jsonl").read_text().splitlines()) == 3
