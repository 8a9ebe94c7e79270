"""The command line as typed: what it teaches, its exit statuses, one line for bad input."""

import json
import shlex
import subprocess
import sys
from importlib import metadata

import pytest

from rlnorm.launch.cli import _next_steps
from rlnorm.trainers.compare.runs import plan_comparison
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.record.run_dir import RunDir
from rlnorm.trainers.tasks import shipped_model


def rlnorm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlnorm.launch.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def test_help_names_every_command():
    result = rlnorm("--help")
    assert result.returncode == 0
    for command in ("train", "eval", "compare", "grade", "doctor", "estimators"):
        assert command in result.stdout


def test_version_is_the_package_s_and_needs_nothing_heavy():
    code = (
        "import sys\nfor name in ('torch', 'numpy', 'pydantic'): sys.modules[name] = None\n"
        "sys.argv = ['rlnorm', '--version']\nimport rlnorm.launch.cli as c; c.main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"rlnorm {metadata.version('rlnorm')}\n"


@pytest.mark.parametrize("command", ["train", "eval", "compare", "grade", "estimators"])
def test_the_help_of_a_command_shows_an_example(command):
    result = rlnorm(command, "--help")
    assert result.returncode == 0
    assert "Example" in result.stdout


def test_the_help_of_train_names_presets_and_the_page_of_keys():
    shown = " ".join(rlnorm("train", "--help").stdout.replace("│", " ").split())
    assert "quickstart" in shown
    assert "all keys: docs/configuration.md" in shown
    assert "--no-overwrite" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trian",), "No such command 'trian'"),
        (("train",), "Missing argument"),
        (("train", "quickstart", "--resume", "--overwrite"), "exclude each other"),
        (("train", "quickstart", "learner.lrr=1"), "did you mean 'lr'?"),
        (("grade",), "needs CASES and --out"),
        (("grade", "missing.jsonl", "--out", "x.jsonl"), "missing.jsonl"),
        (("estimators", "gropo"), "did you mean 'grpo'?"),
        (("eval", "quickstart", "data.eval={}"), "data.eval is empty"),
        (
            ("eval", "quickstart", "--checkpoint", "nope"),
            "--checkpoint nope: holds no model; needs",
        ),
        (("eval", "quickstart", "--out", "/dev/null"), "--out /dev/null: /dev/null is a file"),
        (("eval", "quickstart", "--out", "s3://b/x"), "--out: got 's3:/b/x': is a URL"),
        (("eval", "quickstart", "--out=~nobody_here/x"), "--out: got '~nobody_here/x': no such"),
        (("compare", "graded", "--out", "gs://b"), "--out: got 'gs:/b': is a URL"),
        (("grade", "s3://b/c.jsonl", "--out", "x"), "cases: got 's3:/b/c.jsonl': is a URL"),
        (("grade", "--audit", "file:///c.jsonl"), "--audit: got 'file:/c.jsonl': is a URL"),
        (("train", "quickstart", "output_dir=/dev/null"), "/dev/null is a file, not a folder"),
        (("train", "cluster_cpu", "cluster.address=127.0.0.1:1"), "nothing answers there"),
    ],
    ids=lambda x: " ".join(x)[:40] if isinstance(x, tuple) else "",
)
def test_bad_input_is_one_clear_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = rlnorm(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.rglob("metrics.jsonl")) == []


@pytest.mark.parametrize(
    ("algorithm", "two"),
    [("grpo", "grpo,dr_grpo"), ("dr_grpo", "config,grpo"), ("{estimator: rloo}", "config,grpo")],
)
def test_what_to_try_next_is_commands_that_check_out(monkeypatch, tmp_path, algorithm, two):
    overrides = [f"output_dir={tmp_path}", "run_name=my run", f"algorithm={algorithm}"]
    monkeypatch.setattr(sys, "argv", [".venv/bin/rlnorm"])
    monkeypatch.setenv("PATH", "")
    config = load_config("quickstart", overrides)
    shown = _next_steps(config)
    run = f"{tmp_path}/my run"
    assert f".venv/bin/rlnorm eval '{run}/config.yaml' --checkpoint '{run}/checkpoints/" in shown
    RunDir(config.run_dir).create(config, overwrite=False)
    for command in ("train", "compare"):
        [typed] = [shlex.split(line) for line in shown.splitlines() if f"rlnorm {command} " in line]
        file, *changes = typed[typed.index(".venv/bin/rlnorm") + 2 :]
        other = load_config(file, [change for change in changes if "=" in change])
        RunDir(other.run_dir).check(other, resume=False, overwrite=False)
    assert changes[-1] == two
    plan_comparison(other, two.split(","), 3, "grpo")
    assert "compare" not in _next_steps(load_config("quickstart", [*overrides, "data.eval={}"]))


def test_eval_measures_a_model_and_keeps_the_verdicts(tmp_path):
    out = tmp_path / "verdicts"
    checkpoint = ["--checkpoint", str(shipped_model("graded")), "--out", str(out)]
    result = rlnorm("eval", "quickstart", "eval_samples=2", *checkpoint)
    assert result.returncode == 0, result.stderr
    assert "chain" in result.stdout
    rows = [json.loads(line) for line in (out / "chain.jsonl").read_text().splitlines()]
    assert len(rows) == 512
    assert all(len(row["sampled"]) == 2 for row in rows)


def test_grade_writes_a_verdict_a_row_in_order(tmp_path):
    cases = tmp_path / "cases.jsonl"
    rows = [
        {"id": "a", "gold": "1/2", "pred": r"so \boxed{0.5}"},
        {"id": "b", "gold": "7", "pred": r"\boxed{8}"},
    ]
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = rlnorm("grade", str(cases), "--out", str(tmp_path / "v.jsonl"))
    assert result.returncode == 0, result.stderr
    verdicts = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [(v["id"], v["correct"], v["status"]) for v in verdicts] == [
        ("a", True, "correct"),
        ("b", False, "wrong"),
    ]


def test_doctor_finds_this_machine_sound():
    result = rlnorm("doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "code sandbox" in result.stdout


def test_doctor_fails_on_a_broken_torch(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: undefined symbol')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = rlnorm("doctor")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "fail" in result.stdout


def test_estimators_prints_one_in_full():
    result = rlnorm("estimators", "bnpo")
    assert result.returncode == 0
    assert "bnpo" in result.stdout
    assert "clip_high=0.28" in result.stdout
