"""A training step of the quickstart against TRL's GRPOTrainer: seconds, peak memory, accuracy.

Usage: python benchmarks/quickstart_step.py --trl-python VENV/bin/python [--rounds 3] [--steps 15]

Both sides get the same model, prompts in the same order, group size, batch, rewards, two updates a
step, token-mean loss, group standard deviation, clip, AdamW and gradient clip, in float32 without
a KL term; TRL generates with transformers, without gradient checkpointing. Each run is a process of
its own with its own peak memory (VmHWM); rounds have seeds in turn and alternate which side goes
first, so that load from elsewhere hits both alike. A step is everything from one step's end to the
next, logging included. Accuracy of a step is that of its own sampled rollouts, before its update.

Departures: old logprobs are a forward pass of their own in TRL, which needs them for the second
update, and the sampler's here; the two draw different random numbers.
"""

# ruff: noqa: E402
import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUN_DEADLINE_S = 1800
# a script's own folder comes first, and a benchmark there may be named like a package
sys.path[0] = str(ROOT)

from benchmarks.record import conditions, keep


def main() -> None:
    """Run one side of one round (as a child), or all rounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trl-python", help="interpreter of an environment that has trl 1.16.0")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1, help="of the first round")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", default="shipped:quick")
    parser.add_argument("--out", type=Path, help="write all numbers here as JSON")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        job = json.loads(args.job.read_text())
        versions = conditions("torch", "transformers", "trl")["versions"]
        result = SIDES[args.side](job) | {"peak_bytes": peak_bytes(), "versions": versions}
        Path(job["result"]).write_text(json.dumps(result))
        return
    if args.trl_python is None:
        parser.error("--trl-python is missing: the interpreter of an environment with trl")
    report = compare(args)
    print_table(report)
    if args.out:
        keep(report, args.out)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds, the sides in turn."""
    report = conditions() | {"threads": args.threads, "steps": args.steps, "rounds": []}
    pythons = {"trl": args.trl_python, "rlnorm": sys.executable}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(args.rounds):
            job = make_job(args, Path(folder), seed=args.first_seed + index)
            order = ["trl", "rlnorm"] if index % 2 == 0 else ["rlnorm", "trl"]
            runs = {side: run_side(side, pythons[side], job, args.threads) for side in order}
            report["rounds"].append(runs)
            line = ", ".join(f"{s} {median_step(r):.2f} s" for s, r in runs.items())
            print(f"round {index + 1} of {args.rounds}: {line} a step", flush=True)
    return report


def make_job(args: argparse.Namespace, folder: Path, seed: int) -> dict[str, Any]:
    """What both sides are told: the quickstart preset and its prompts, in the order drawn."""
    from rlnorm.trainers.config.load import load_config
    from rlnorm.trainers.models import model_path
    from rlnorm.trainers.prepare import prepare
    from rlnorm.trainers.prompt_stream import PromptStream

    overrides = [
        *(f"model.path={args.model}", f"steps={args.steps}", f"seed={seed}"),
        *("data.eval={}", "checkpoint_every=0", f"output_dir={folder}"),
    ]
    config = load_config("quickstart", overrides)
    stream = PromptStream(asyncio.run(prepare(config)).prompts.train, config.seed)
    drawn = stream.draw(args.steps * config.rollout.prompts_per_step)
    return {
        "overrides": overrides,
        "config": config.model_dump(mode="json"),
        "model": str(model_path(config.model.path)),
        "rows": [{"prompt": list(p.messages), "answer": p.answer} for p in drawn],
        "folder": str(folder),
        "result": str(folder / "result.json"),
    }


def run_side(side: str, python: str, job: dict[str, Any], threads: int) -> dict[str, Any]:
    """One side in a process of its own."""
    path = Path(job["folder"]) / "job.json"
    path.write_text(json.dumps(job))
    env = os.environ | {
        "OMP_WAIT_POLICY": "passive",
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
    }
    command = [python, __file__, "--side", side, "--job", str(path)]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=RUN_DEADLINE_S, check=False
    )
    if done.returncode:
        raise SystemExit(f"{side} ended with status {done.returncode}:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(Path(job["result"]).read_text())
    return result


def rlnorm_side(job: dict[str, Any]) -> dict[str, Any]:
    """The quickstart preset through the same entry point as `rlnorm train`."""
    from rich.console import Console

    from rlnorm.trainers.config.load import load_config
    from rlnorm.trainers.record.display import Display
    from rlnorm.trainers.run import run_training

    class Watch(Display):
        """Notes the time at which each step ends."""

        def step(self, row: Any) -> None:
            """Step 0 is the state before training."""
            super().step(row)
            times.append(time.perf_counter())

    config = load_config("quickstart", job["overrides"])
    times: list[float] = []
    with open(os.devnull, "w") as quiet:
        watch = Watch(config.steps, Console(file=quiet))
        asyncio.run(run_training(config, watch, overwrite=True))
    rows = [row for row in watch.history if row["step"]]
    correct = config.rewards[0].name
    return {
        "seconds": differences(times),
        "accuracy": [row[f"reward/{correct}"] for row in rows],
        "versions": versions("torch", "transformers"),
    }


def trl_side(job: dict[str, Any]) -> dict[str, Any]:
    """GRPOTrainer told the same numbers; needs trl, and `rewards` from this repository."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rlnorm.rewards.format import boxed_format
    from rlnorm.rewards.match import boxed_exact

    config, times, accuracy = job["config"], [], []
    rollout, learner = config["rollout"], config["learner"]
    updates, groups = learner["minibatches"], rollout["prompts_per_step"]

    def correct(completions: Any, answer: list[str], **_: Any) -> list[float]:
        texts = [turns[-1]["content"] for turns in completions]
        scores = [
            boxed_exact(text, gold).components["score"]
            for text, gold in zip(texts, answer, strict=True)
        ]
        accuracy.append(sum(scores) / len(scores))
        return scores

    def well_formed(completions: Any, **_: Any) -> list[float]:
        return [boxed_format(turns[-1]["content"]) for turns in completions]

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Notes the time at which each RL step, of several updates, ends."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            if state.global_step % updates == 0:
                times.append(time.perf_counter())

    trainer = GRPOTrainer(
        model=job["model"],
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        reward_funcs=[correct, well_formed],
        train_dataset=Dataset.from_list(job["rows"]),
        callbacks=[Watch()],
        args=GRPOConfig(
            output_dir=f"{job['folder']}/trl",
            model_init_kwargs={"dtype": "float32"},
            use_cpu=True,
            bf16=False,
            seed=config["seed"],
            max_steps=config["steps"] * updates,
            per_device_train_batch_size=groups * rollout["group_size"] // updates,
            gradient_accumulation_steps=1,
            steps_per_generation=updates,
            num_generations=rollout["group_size"],
            max_completion_length=rollout["max_tokens"],
            temperature=rollout["temperature"],
            shuffle_dataset=False,
            reward_weights=[reward["weight"] for reward in config["rewards"]],
            scale_rewards="group",
            # the token mean of one undivided batch
            loss_type="bnpo",
            beta=0.0,
            epsilon=0.2,
            learning_rate=learner["lr"],
            lr_scheduler_type="constant",
            adam_beta1=learner["betas"][0],
            adam_beta2=learner["betas"][1],
            weight_decay=learner["weight_decay"],
            max_grad_norm=learner["grad_clip"],
            gradient_checkpointing=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    return {
        "seconds": differences(times),
        "accuracy": accuracy,
        "versions": versions("trl", "torch", "transformers"),
    }


SIDES = {"trl": trl_side, "rlnorm": rlnorm_side}


def differences(times: list[float]) -> list[float]:
    """Seconds from each time to the next."""
    return [b - a for a, b in itertools.pairwise(times)]


def median_step(run: dict[str, Any]) -> float:
    """Median seconds of a step, the first one left out: it pays for caches and first imports."""
    return statistics.median(run["seconds"][1:])


def peak_bytes() -> int:
    """The most resident memory this process ever had (VmHWM, Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status holds no VmHWM: this benchmark needs Linux")


def versions(*names: str) -> dict[str, str]:
    """Installed versions by name."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


def print_table(report: dict[str, Any]) -> None:
    """Both sides over all rounds, their ratios, and accuracy by step."""
    sides = {name: [r[name] for r in report["rounds"]] for name in ("trl", "rlnorm")}
    step = {name: statistics.median(map(median_step, runs)) for name, runs in sides.items()}
    peak = {name: max(r["peak_bytes"] for r in runs) for name, runs in sides.items()}
    print(f"\n{'':8} {'s a step':>18} {'peak memory':>12}  sampled accuracy by step")
    for name, runs in sides.items():
        spread = f"({min(map(median_step, runs)):.2f}-{max(map(median_step, runs)):.2f})"
        curve = [
            statistics.mean(values) for values in zip(*(r["accuracy"] for r in runs), strict=True)
        ]
        shown = " ".join(f"{value:.2f}" for value in curve)
        print(f"{name:8} {step[name]:5.2f} {spread:>12} {peak[name] / 1e9:9.2f} GB  {shown}")
    print(
        f"ratio    {step['rlnorm'] / step['trl']:.2f} of TRL's time, "
        f"{peak['rlnorm'] / peak['trl']:.2f} of its memory"
    )
    if len(report["rounds"]) > 1:
        mean, low, high = accuracy_difference(report["rounds"])
        print(
            f"accuracy {mean:+.1%} against TRL's over all steps, "
            f"95 % interval {low:+.1%} to {high:+.1%}"
        )


def accuracy_difference(rounds: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    """Mean over the rounds of ours less TRL's, averaged over the steps, and its t interval."""
    from scipy import stats

    differences = [
        statistics.mean(r["rlnorm"]["accuracy"]) - statistics.mean(r["trl"]["accuracy"])
        for r in rounds
    ]
    test = stats.ttest_1samp(differences, 0.0)
    return (statistics.mean(differences), *test.confidence_interval(0.95))


if __name__ == "__main__":
    main()
