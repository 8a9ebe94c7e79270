"""The built wheel, installed apart from the source tree, is what users get."""

import importlib.util
import json
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


def run(
    installed: Path, *arguments: str, cwd: Path | None = None, input: str = ""
) -> subprocess.CompletedProcess[str]:
    """Python with the wheel on its path, in a folder that is not the source tree."""
    env = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd or installed.parent,
        env=env,
        input=input,
        capture_output=True,
        text=True,
        timeout=540,
    )


def test_the_wheel_holds_every_package_preset_and_model(installed):
    code = (
        "import rlnorm, rlnorm.configs as c, pathlib;"
        "print(pathlib.Path(rlnorm.__file__).parent.parent);"
        "from rlnorm.trainers.config.load import load_config; load_config('quickstart');"
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
        if p.is_file() and p.suffix in (".py", ".cpp", ".h", ".c", ".typed", ".j2")
    }
    assert "rlnorm/trainers/record/templates/base.html.j2" in expected
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


SCRIPT = """
from rlnorm.trainers import train

UNIT = 0.25


def lines(completion):
    return UNIT * completion.count("\\n")


small = ["steps=2", "eval_samples=1", "run_name=p", "data.train_limit=512"]
result = train("quickstart", overrides=small, rewards=[lines], display=False)
print(result.ended, result.metrics["reward/lines"] > 0, result.checkpoint)
"""


def test_the_wheel_trains_from_a_script_with_a_reward_of_its_own(installed, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    result = run(installed, "script.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done True runs/p/checkpoints/step_000002\n"


@pytest.fixture
def theirs(tmp_path) -> Path:
    """A folder whose files are named as rlnorm's packages; only the reward is asked for."""
    (tmp_path / "rewards.py").write_text("def f(completion):\n    return len(completion) / 64\n")
    for name in ("trainers", "launch", "configs"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not of rlnorm')")
    return tmp_path


def test_every_public_module_imports_beside_files_of_the_same_names(installed, theirs):
    [name] = {p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")} - {"bin"}
    assert name == "rlnorm"
    homes = {"triton_backend": "triton", "deepspeed_rank": "deepspeed", "vllm_engine": "vllm"}
    paths = [p.relative_to(installed).with_suffix("") for p in (installed / name).rglob("*.py")]
    modules = sorted(
        ".".join(path.parts).removesuffix(".__init__")
        for path in paths
        if "jail" not in path.parts  # started as a program, inside the sandbox
        and (path.name not in homes or importlib.util.find_spec(homes[path.name]))
    )
    assert {"rlnorm.trainers.api", "rlnorm.rewards.registry", "rlnorm.configs"} <= set(modules)
    code = (
        "import importlib, json, sys\n"
        "for name in json.load(sys.stdin): importlib.import_module(name)\n"
        "print(sys.modules['rlnorm'].__file__)"
    )
    result = run(installed, "-c", code, cwd=theirs, input=json.dumps(modules))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(installed / "rlnorm/__init__.py")


@pytest.mark.parametrize(
    "preset",
    [
        "quickstart",
        pytest.param("cluster_cpu", marks=[pytest.mark.cluster, pytest.mark.slow]),
    ],
)
def test_a_reward_in_a_file_named_rewards_is_the_users(installed, theirs, preset):
    overrides = ["steps=2", "eval_samples=1", "run_name=r"]
    overrides += ["rewards=[{name: f, function: 'rewards:f'}]"]
    command = ["-m", "rlnorm.launch.cli", "train", preset, *overrides]
    result = run(installed, *command, cwd=theirs)
    assert result.returncode == 0, result.stderr
    metrics = (theirs / "runs/r/metrics.jsonl").read_text()
    rows = [json.loads(line) for line in metrics.splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    # completions have about 8 to 45 characters
    assert 0.1 < rows[-1]["reward/f"] < 0.9
