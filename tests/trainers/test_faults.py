"""What goes wrong in a run ends in recovery, or in one clear line and a run that can go on."""

import asyncio
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from rlnorm.errors import InputError
from rlnorm.trainers.checkpoint import load_state
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training
from rlnorm.trainers.tasks import shipped_model

SMALL = (
    "steps=2",
    "rollout.prompts_per_step=4",
    "rollout.group_size=4",
    "data.train_limit=64",
    "data.eval={}",
)
COMMAND = [sys.executable, "-m", "rlnorm.launch.cli", "train", "quickstart", *SMALL]


def train(folder: Path, *overrides: str, shown: io.StringIO | None = None) -> list[dict]:
    config = load_config("quickstart", [*SMALL, f"output_dir={folder}", "run_name=r", *overrides])
    display = Display(config.steps, Console(file=shown or io.StringIO(), width=200))
    return read_jsonl(asyncio.run(run_training(config, display)).metrics)


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """Importable here and in the reward workers."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(name: str, body: str) -> str:
        (tmp_path / f"{name}.py").write_text(body)
        return name

    return write


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def f(sample): raise RuntimeError('no\\nluck')", r"no luck \(.*\.py, line 1\)"),
        ("def f(sample): return 10**400", "returned 10+.*: needs a number"),
        ("def f(sample): return float('nan')", "needs a finite number"),
        ("def f(sample): return {'surprise': 1.0}", "must be exactly the components"),
    ],
)
def test_a_broken_reward_ends_the_run_and_says_which(user_module, tmp_path, body, message):
    name = user_module(f"broken_{abs(hash(message))}", body)
    reward = f"rewards=[{{name: mine, function: '{name}:f'}}]"
    with pytest.raises(RunError, match=message) as caught:
        train(tmp_path / "runs", reward)
    assert "mine" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_reward_may_return_a_tensor(user_module, tmp_path):
    name = user_module("tensors", "import torch\ndef f(sample): return torch.tensor(0.5)")
    rows = train(tmp_path / "runs", f"rewards=[{{name: mine, function: '{name}:f'}}]")
    assert rows[-1]["reward/mine"] == 0.5


def test_a_slow_reward_is_masked_and_counted(user_module, tmp_path):
    name = user_module(
        "slow_reward",
        "import time\n"
        "def f(sample):\n"
        "    if sample.id.endswith('/0'):\n"
        "        time.sleep(30)\n"
        "    return float(len(sample.completion) % 2)\n",
    )
    rows = train(tmp_path / "runs", f"rewards=[{{name: mine, function: '{name}:f'}}]", "steps=1")
    assert rows[1]["reward/mine/timeout_frac"] == 0.25
    assert rows[1]["reward/mine/valid_frac"] == 0.75


def test_a_non_finite_gradient_skips_the_step_and_saves_the_batch(tmp_path):
    loss = tmp_path / "bad_loss.py"
    loss.write_text(
        "def bad(logprobs, old_logprobs, advantages):\n"
        "    return (logprobs - old_logprobs) * advantages * float('inf')\n"
    )
    shown = io.StringIO()
    options = [f"algorithm.loss='{loss}:bad'", "learner.minibatches=1"]
    rows = train(tmp_path / "runs", *options, shown=shown)
    assert shown.getvalue().count("gradient is not finite: the weights are not changed") == 2
    assert [row["learner/skipped_steps"] for row in rows[1:]] == [1, 1]
    assert [row["policy/version"] for row in rows[1:]] == [0, 0]
    run = tmp_path / "runs" / "r"
    events = [e for e in read_jsonl(run / "events.jsonl") if e["event"] == "step_skipped"]
    assert [e["step"] for e in events] == [1, 2]
    # no skip raises the version, so a second one must not take the first one's name
    assert sorted(p.name for p in (run / "faults").iterdir()) == [
        "version_000000_0.pt",
        "version_000000_1.pt",
    ]
    saved = torch.load(run / "faults" / "version_000000_0.pt", weights_only=False)
    assert saved.denominators.tokens > 0


def test_a_skipped_step_moves_no_adaptive_coefficient(tmp_path):
    loss = tmp_path / "bad_loss.py"
    loss.write_text("def bad(logprobs): return logprobs * float('inf')\n")
    adaptive = "{name: adaptive_entropy, target: 99, coef: 0.5, delta: 0.1}"
    rows = train(
        tmp_path / "runs",
        f"algorithm.loss='{loss}:bad'",
        f"algorithm.regularizers=[{adaptive}]",
    )
    assert all(row["learner/skipped_steps"] > 0 for row in rows[1:])
    checkpoint = tmp_path / "runs" / "r" / "checkpoints" / "step_000002"
    assert load_state(checkpoint).algorithm["coef"] == 0.5


def test_a_run_directory_in_which_another_process_trains_is_left_alone(tmp_path):
    train(tmp_path / "runs")
    run = tmp_path / "runs" / "r"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    options = [*SMALL, f"output_dir={tmp_path}/runs", "run_name=r", "steps=3"]
    config = load_config("quickstart", options)
    held = os.open(run, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)  # as the process that trains in it does
    for how in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match=f"run directory {run}: another process is using it"):
            asyncio.run(run_training(config, Display(3, Console(quiet=True)), **how))
    os.close(held)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    asyncio.run(run_training(config, Display(3, Console(quiet=True)), resume=True))
    assert len(read_jsonl(run / "metrics.jsonl")) == 4


def test_a_run_that_learns_nothing_ends_with_a_report(user_module, tmp_path):
    name = user_module("flat_reward", "def f(sample): return 1.0")
    rows = train(tmp_path / "runs", f"rewards.correct.function={name}:f", "rewards.format.weight=0")
    assert [row["loss"] for row in rows[1:]] == [0.0, 0.0]
    assert rows[1]["policy/entropy"] is None
    assert (tmp_path / "runs" / "r" / "report.html").is_file()


def test_a_reward_that_names_its_own_components_trains_with_a_weight_for_each(
    user_module, tmp_path
):
    name = user_module(
        "two_parts",
        "class Two:\n"
        "    components = ('digits', 'short')\n"
        "    def score(self, samples):\n"
        "        texts = [sample.completion for sample in samples]\n"
        "        return [{'digits': sum(c.isdigit() for c in text) / 10,"
        " 'short': float(len(text) < 20)} for text in texts]\n",
    )
    reward = f"{{name: two, function: '{name}:Two', weight: {{digits: 2.0, short: 0.5}}}}"
    rows = train(tmp_path / "runs", f"rewards=[{reward}]", "algorithm=gdpo")
    for row in rows[1:]:
        assert row["reward/mean"] == pytest.approx(
            2 * row["reward/digits"] + 0.5 * row["reward/short"]
        )
        assert row["grad_norm"] > 0


def broken(model: Path, *, keep: str = "") -> Path:
    """A copy of the shipped model whose weights are cut off, or hold only tensors named so."""
    shutil.copytree(shipped_model("quick"), model)
    weights = load_file(model / "model.safetensors")
    if keep:
        weights = {name: w for name, w in weights.items() if keep in name}
        save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    else:
        (model / "model.safetensors").write_bytes(b"cut off")
    return model


def test_a_model_that_does_not_load_is_told_and_the_old_run_stays(tmp_path):
    train(tmp_path / "runs")
    before = (tmp_path / "runs" / "r" / "metrics.jsonl").read_bytes()
    cases = {
        "cannot load: Error while deserializing": broken(tmp_path / "cut"),
        "missing keys in the weights, for example": broken(tmp_path / "part", keep="layers.0"),
    }
    for message, model in cases.items():
        options = [*SMALL, f"output_dir={tmp_path}/runs", "run_name=r", f"model.path={model}"]
        config = load_config("quickstart", options)
        with pytest.raises(InputError, match=message):
            asyncio.run(run_training(config, Display(2, Console(quiet=True)), overwrite=True))
        assert (tmp_path / "runs" / "r" / "metrics.jsonl").read_bytes() == before
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["r"]


def test_weights_that_are_not_finite_end_the_run_with_one_line(tmp_path):
    model = broken(tmp_path / "nan", keep=".")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"logits of prompt 0 .* NaN or infinite: .*start again$"):
        train(tmp_path / "runs", f"model.path={model}")


def test_overwriting_leaves_the_new_run_alone(tmp_path):
    old = train(tmp_path / "runs", "seed=1")
    options = [*SMALL, f"output_dir={tmp_path}/runs", "run_name=r", "seed=2"]
    config = load_config("quickstart", options)
    asyncio.run(run_training(config, Display(2, Console(quiet=True)), overwrite=True))
    new = read_jsonl(tmp_path / "runs" / "r" / "metrics.jsonl")
    assert len(new) == len(old)
    assert new[1]["loss"] != old[1]["loss"]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["r"]


def test_changed_data_is_refused_at_resume(tmp_path):
    data = tmp_path / "sums.jsonl"
    rows = [rows_of(f"{i}+1 ?", id=str(i), answer=str(i + 1)) for i in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(tmp_path / "runs", f"data.train={data}")
    rows[0]["answer"] = "7"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = [*SMALL, f"output_dir={tmp_path}/runs", "run_name=r", f"data.train={data}", "steps=3"]
    config = load_config("quickstart", options)
    with pytest.raises(InputError, match=r"--resume: the files of .*sums.jsonl have changed"):
        asyncio.run(run_training(config, Display(3, Console(quiet=True)), resume=True))


def rows_of(question="1+1 ?", **changes):
    return {"id": "a", "question": question, "answer": "2", **changes}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "question": "1+1 ?"}], "answer"),
        ([rows_of(), rows_of("2+2 ?")], "'a'|: a"),
        ([rows_of(answer="")], "a"),
        ([], "no rows"),
        ([rows_of("1+1 " * 2000)], r"1 of 1 prompts have more than 960 tokens .*: a with 8003"),
    ],
    ids=["missing field", "duplicate ids", "empty answer", "no rows", "too long"],
)
def test_bad_data_is_named_and_nothing_is_written(tmp_path, rows, message):
    import json

    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=message) as caught:
        train(tmp_path / "runs", f"data.train={path}")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_training_prompt_in_a_benchmark_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"data.eval.same: 512 of 512 prompts are also training prompts"
    ):
        train(tmp_path / "runs", "data.train=task:chain:heldout", "data.train_limit=512",
              "data.eval={same: 'task:chain:heldout'}")  # fmt: skip


def test_ctrl_c_saves_says_how_to_go_on_and_the_run_goes_on(tmp_path):
    overrides = ["steps=200", f"output_dir={tmp_path}", "run_name=r"]
    process = subprocess.Popen(
        [*COMMAND, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "r" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 3):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no second step within 120 s"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped and saved after step" in stderr
    assert f"rlnorm train {tmp_path}/r/config.yaml --resume" in stderr
    done = read_jsonl(metrics)[-1]["step"]
    again = subprocess.run(
        [*COMMAND[:4], f"{tmp_path}/r/config.yaml", f"steps={done + 1}", "--resume"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr
    assert [row["step"] for row in read_jsonl(metrics)] == list(range(done + 2))


def test_ctrl_c_in_the_first_evaluation_claims_no_save_and_the_run_starts_again(
    user_module, tmp_path
):
    # a coroutine runs in the training process itself: the first score is the moment of the Ctrl-C
    name = user_module(
        "interrupting",
        "import os, pathlib, signal\n"
        f"once = pathlib.Path({str(tmp_path / 'sent')!r})\n"
        "async def f(sample):\n"
        "    if not once.exists():\n"
        "        once.touch()\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return float(len(sample.completion) % 2)\n",
    )
    config = [f"rewards=[{{name: mine, function: '{name}:f'}}]", "eval_samples=1"]
    config += ["data.eval={c: task:chain:heldout}", f"output_dir={tmp_path}", "run_name=r"]
    stopped = subprocess.run([*COMMAND, *config], capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 130, stopped.stderr
    assert "stopped before step 1 of 2: nothing was trained" in stopped.stderr
    assert "saved after" not in stopped.stderr
    assert "finishing the first evaluation" in stopped.stdout
    assert not (tmp_path / "r" / "checkpoints").exists()
    again = [*COMMAND[:4], f"{tmp_path}/r/config.yaml", "--overwrite"]
    assert " ".join(again[3:]) in " ".join(stopped.stderr.split())
    done = subprocess.run(again, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = read_jsonl(tmp_path / "r" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2]


INTERRUPTING = """
import os, pathlib, signal, time
once, run = pathlib.Path({once!r}), pathlib.Path({run!r})
async def f(sample):
    if (run / {after!r}).exists() and not once.exists():
        once.touch()
        for _ in range({times}):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)  # signals that come together are one
    return float(len(sample.completion) % 2)
"""


@pytest.mark.parametrize(
    ("after", "times", "told", "saved"),
    [
        # its rollouts are written: the step is in its evaluation
        ("rollouts/step_000001.parquet", 1, "stopped and saved after step 1 of 3", True),
        ("rollouts/step_000001.parquet", 2, "stopped at once: steps after the last", False),
        ("config.yaml", 2, "stopped before training began: nothing was saved", False),
    ],
    ids=["in an evaluation", "twice", "twice before the first row"],
)
def test_ctrl_c_tells_what_is_kept(user_module, tmp_path, after, times, told, saved):
    run = tmp_path / "r"
    once = str(tmp_path / "sent")
    body = INTERRUPTING.format(once=once, run=str(run), after=after, times=times)
    name = user_module(f"interrupting_{times}", body)
    config = [f"rewards=[{{name: mine, function: '{name}:f'}}]", "eval_samples=1", "steps=3"]
    config += ["data.eval={c: task:chain:heldout}", "eval_every=1"]
    config += [f"output_dir={tmp_path}", "run_name=r"]
    stopped = subprocess.run([*COMMAND, *config], capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 130, stopped.stderr
    assert told in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert (run / "checkpoints" / "latest").exists() == saved
    assert run.exists() == ("--resume" in stopped.stderr)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounts a small disk: needs root"
)
def test_a_full_disk_is_one_line_and_leaves_no_half_checkpoint(tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    # the mount lives and dies with the private namespace
    inner = f"mount -t tmpfs -o size=2m none {mount} && {' '.join(map(repr, COMMAND))} " + (
        f"output_dir={mount} run_name=r; status=$?; cd {mount}/r; cat events.jsonl; "
        "ls checkpoints; exit $status"
    )
    result = subprocess.run(
        ["unshare", "-m", "sh", "-c", inner], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1, result.stderr
    assert f"no space left on the disk of {mount}/r: free some" in result.stderr
    assert "Traceback" not in result.stderr
    assert '"status": "failed", "cause": "no space left on the disk of' in result.stdout
    assert "step_0" not in result.stdout
