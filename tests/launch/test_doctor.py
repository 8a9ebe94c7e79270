"""Which Pythons are supported: pyproject, the Makefile and the doctor say the same."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rlnorm.launch import doctor

ROOT = Path(__file__).resolve().parents[2]
MINORS = range(doctor.PYTHONS[0][1], doctor.PYTHONS[1][1] + 1)


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 10, 13), "fail"), ((3, 11, 0), "ok"), ((3, 13, 9), "ok"), ((3, 14, 0), "fail")],
)
def test_a_python_outside_the_range_fails_with_one_line(monkeypatch, version, state):
    monkeypatch.setattr(sys, "version_info", version)
    finding = doctor._python()
    assert finding.state == state
    assert finding.remedy == ("" if state == "ok" else "use Python 3.11, 3.12 or 3.13")


def test_pyproject_states_the_same_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">=3.{MINORS[0]},<3.{MINORS[-1] + 1}"
    stated = re.findall(r"Python :: 3\.(\d+)", " ".join(project["classifiers"]))
    assert [int(minor) for minor in stated] == list(MINORS)


def make(tmp_path, version: tuple[int, int], *given: str) -> subprocess.CompletedProcess[str]:
    """`make .made` where every Python on PATH is one that says it is of this version."""
    fake = tmp_path / "python3"
    fake.write_text(
        f'#!/bin/sh\n[ "$1" = -V ] && {{ echo Python 3.{version[1]}.0; exit; }}\n'
        f'says="import sys; sys.version_info = {version}"\n'
        f'[ "$1" = -c ] && exec {sys.executable} -c "$says; $2"\n'
        'mkdir -p "$3"\n'
    )
    fake.chmod(0o755)
    for name in ("tail", "touch", "mkdir", "sh"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    env = {"PATH": str(tmp_path), "VENV": str(tmp_path / "venv")}
    program = next(f for p in os.environ["PATH"].split(":") if (f := Path(p) / "make").is_file())
    command = [
        str(program),
        "-s",
        "-C",
        str(ROOT),
        f"VENV={tmp_path}/venv",
        *given,
        f"{tmp_path}/venv/.made",
    ]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("minor", MINORS)
def test_make_takes_each_supported_python(tmp_path, minor):
    result = make(tmp_path, (3, minor))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "venv" / ".made").is_file()


@pytest.mark.parametrize("minor", [MINORS[0] - 1, MINORS[-1] + 1])
@pytest.mark.parametrize("given", [(), ("PYTHON=python3",)], ids=["found", "given"])
def test_make_refuses_another_python_in_one_line(tmp_path, minor, given):
    result = make(tmp_path, (3, minor), *given)
    assert result.returncode == 2
    [line] = result.stdout.splitlines()
    assert f"needs Python 3.11, 3.12 or 3.13; found Python 3.{minor}.0" in line
    assert not (tmp_path / "venv").exists()
