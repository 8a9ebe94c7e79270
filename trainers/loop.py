"""The training loop: one controller for a laptop and for a cluster.

    prompts -> Collector -> GroupBuffer -> credit -> Learner -> WeightChannel -> pool

| part      | consumes          | produces            | waits for, unblocked by             |
|-----------|-------------------|---------------------|-------------------------------------|
| Collector | prompts           | finished groups     | the pool and the rewards' deadlines |
| buffer    | finished groups   | groups young enough | rollout.deadline_s, by put()        |
| credit    | groups            | TokenBatch          | the learner's scoring pass          |
| Learner   | TokenBatch        | new weights         | its own collectives' deadline       |
| channel   | weights, version  | the pool at version | rollout.deadline_s, by every engine |

With max_staleness 0 the collector starts only after the channel published, so the five stand in a
row; each already speaks in versions, so that sampling may run ahead later without a new design.
"""

import asyncio
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlnorm.algorithms import Algorithm
from rlnorm.rewards.json_values import as_text
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.advantages import (
    Credit,
    assign_credit,
    minibatches,
    prepare_minibatch,
    rescale_metrics,
)
from rlnorm.trainers.buffer import GroupBuffer
from rlnorm.trainers.checkpoint import LoopState, save_checkpoint
from rlnorm.trainers.collect import Collector, Timings, score_table, split_greedy
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.errors import Interrupted
from rlnorm.trainers.evaluate.benchmarks import Problem, evaluate_all
from rlnorm.trainers.learner.optimizer import lr_schedule
from rlnorm.trainers.learner.types import Learner
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.record.loggers import Sinks
from rlnorm.trainers.record.rollouts import write_rollouts
from rlnorm.trainers.record.run_dir import RunDir
from rlnorm.trainers.rollout.sampler import Sampler
from rlnorm.trainers.rollout.types import RolloutPool
from rlnorm.trainers.sync import SyncReport, WeightChannel
from rlnorm.types import Prompt, ScoredRollouts, StepResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a run is made of; rlnorm.trainers.build makes them from a config."""

    config: Config
    algorithm: Algorithm
    tokenizer: Any
    collector: Collector
    pool: RolloutPool
    sampler: Sampler
    learner: Learner
    channel: WeightChannel
    scorer: Scorer
    benchmarks: Mapping[str, Sequence[Prompt]]
    run_dir: RunDir
    sinks: Sinks
    display: Display


async def train(parts: Parts, state: LoopState) -> LoopState:
    """Run from `state` to the last step; a first Ctrl-C ends after the step under way."""
    config, buffer, stop = parts.config, GroupBuffer(), Stop(parts.display)
    lr = lr_schedule(config.learner, config.steps)
    if state.step == 0:
        await _start(parts)
    while state.step < config.steps and not stop.asked:
        stop.promise = "finishing this step, then saving"
        step, clock = state.step + 1, Clock()
        with clock("time/step_s"):
            groups, timings = await parts.collector.collect(step)
            buffer.put(groups)
            groups, dropped = await buffer.take(
                len(groups),
                version=parts.learner.policy_version,
                max_staleness=config.max_staleness,
                deadline_s=config.rollout.deadline_s,
            )
            staleness = max(parts.learner.policy_version - g.policy_version for g in groups)
            scored = score_table(groups, parts.scorer.components)
            scored, greedy = split_greedy(scored, parts.scorer.weights)
            with clock("time/learn_s"):
                credit = await assign_credit(
                    scored, parts.learner, parts.algorithm, config, parts.scorer.weights, greedy
                )
                results = await _learn(parts, credit, step, lr(step - 1))
            with clock("time/sync_s"):
                report = await parts.channel.publish(parts.learner, parts.pool)
        state = LoopState(
            step=step, cursor=parts.collector.prompts.cursor, algorithm=parts.algorithm.state_dict()
        )
        row = {"step": step, "lr": lr(step - 1), "staleness/max": staleness}
        row |= {"staleness/dropped_groups": dropped, **clock.seconds}
        row |= step_metrics(parts, scored, credit, results, timings, report)
        row["throughput/tokens_per_s"] = row["tokens"] / row["time/step_s"]
        write_rollouts(parts.run_dir.path / "rollouts", step, scored, credit)
        last = step == config.steps
        if last or (config.eval_every and step % config.eval_every == 0):
            row |= await _evaluate(parts, step)
        _log(parts, row)
        await asyncio.sleep(0.001)  # a Ctrl-C of the blocking part is told; 0 s would be too soon
        if last or stop.asked or (config.checkpoint_every and step % config.checkpoint_every == 0):
            await save_checkpoint(
                parts.run_dir.checkpoints, parts.learner, state, keep=config.keep_checkpoints
            )
    return state


def stopped_early(step: int, steps: int, run_dir: Path) -> Interrupted:
    """What a run that ends before its last step has kept, and how to go on."""
    again = f"rlnorm train {run_dir}/config.yaml"
    if step == 0:
        return Interrupted(
            f"stopped before step 1 of {steps}: nothing was trained, so there is nothing to save; "
            f"to start again: {again} --overwrite"
        )
    return Interrupted(
        f"stopped and saved after step {step} of {steps}; to go on: {again} --resume"
    )


async def _start(parts: Parts) -> None:
    """The first weights to the pool, and how good they are."""
    await parts.channel.publish(parts.learner, parts.pool)
    _log(parts, {"step": 0, **await _evaluate(parts, 0)})


async def _learn(parts: Parts, credit: Credit, step: int, lr: float) -> list[StepResult]:
    """The optimizer steps of one RL step."""
    results = []
    for index, batch in enumerate(minibatches(credit, parts.config, step)):
        batch = await prepare_minibatch(batch, parts.learner, parts.algorithm, fresh=index == 0)
        if not len(batch.token_ids):
            continue
        result = rescale_metrics(await parts.learner.step(batch, lr), batch)
        results.append(result)
        if result.skipped:
            parts.run_dir.log_event(
                "step_skipped", step=step, minibatch=index, grad_norm=str(result.grad_norm)
            )
            parts.display.note(
                f"step {step}: the gradient is not finite: the weights stay as they are, its batch "
                f"is in {parts.run_dir.path / 'faults'}"
            )
        else:
            parts.algorithm.after_step({"entropy": result.metrics["policy/entropy"]})
    if not results:
        parts.run_dir.log_event("nothing_to_learn", step=step)
    return results


async def _evaluate(parts: Parts, step: int) -> dict[str, float]:
    """Evaluate, keep every verdict in `eval/step_*/`, show a few rollouts."""
    metrics, problems = await evaluate_all(
        parts.benchmarks, parts.sampler, parts.scorer, parts.tokenizer, parts.config
    )
    folder = parts.run_dir.path / "eval" / f"step_{step:06d}"
    for name, rows in problems.items():
        parts.run_dir.write_jsonl(folder / f"{name}.jsonl", [p.row() for p in rows])
    shown = [p for rows in problems.values() for p in rows[: parts.config.logging.sample_rollouts]]
    _show(parts, step, shown[: parts.config.logging.sample_rollouts])
    return metrics


def _show(parts: Parts, step: int, problems: Sequence[Problem]) -> None:
    rows = [
        (p.prompt.messages[-1]["content"], p.sampled_text, as_text(p.prompt.answer), p.sampled[0])
        for p in problems
    ]
    columns = ("prompt", "sampled completion", "answer", "reward")
    parts.display.rollouts(step, columns, rows)
    parts.sinks.table(step, columns, rows)


def _log(parts: Parts, row: dict[str, Any]) -> None:
    parts.run_dir.log_metrics(row)
    parts.sinks.log(int(row["step"]), row)
    parts.display.step(row)


def step_metrics(
    parts: Parts,
    scored: ScoredRollouts,
    credit: Credit,
    results: Sequence[StepResult],
    timings: Timings,
    sync: SyncReport,
) -> dict[str, float | None]:
    """The numbers of one step, by their fixed names."""
    sampled = [r for r in scored.rollouts if not r.extra]
    lengths = torch.tensor([float(r.completion.policy_mask.sum()) for r in sampled])
    weights = torch.tensor([parts.scorer.weights[n] for n in scored.reward_names]).double()
    row = {
        "reward/mean": float((scored.rewards * weights).sum(1).nanmean()),
        "completion/tokens_mean": float(lengths.mean()),
        "completion/truncated_frac": float(scored.truncated.double().mean()),
        "group/zero_signal_frac": credit.zero_signal_frac,
        "group/dropped": timings.dropped_groups,
        "group/rounds": timings.rounds,
        "time/rollout_s": timings.rollout_s,
        "time/reward_s": timings.reward_s,
        "sync/parity_gap": sync.parity_gap,
        "tokens": float(lengths.sum()),
        **timings.reward_metrics,
    }
    for index, name in enumerate(scored.reward_names):
        row[f"reward/{name}"] = float(scored.rewards[:, index].nanmean())
    return row | (_learner_metrics(results) if results else NOTHING_LEARNT)


def _learner_metrics(results: Sequence[StepResult]) -> dict[str, float]:
    """Means over the optimizer steps; the sampler gap is the first one's, still on-policy."""
    names = sorted({name for r in results for name in r.metrics})
    row = {name: sum(r.metrics.get(name, 0.0) for r in results) / len(results) for name in names}
    for name in ("policy/kl_sampler", "policy/logprob_gap_mean"):
        row[name] = results[0].metrics[name]
    row["loss"] = sum(r.loss for r in results) / len(results)
    row["grad_norm"] = sum(r.grad_norm for r in results) / len(results)
    row["learner/skipped_steps"] = sum(r.skipped for r in results)
    row["policy/version"] = results[-1].policy_version
    return row


NOTHING_LEARNT = {
    "loss": 0.0,
    "grad_norm": 0.0,
    "learner/skipped_steps": 0,
    "policy/clip_frac": 0.0,
    "policy/entropy": None,
    "policy/kl_sampler": None,
    "policy/logprob_gap_mean": None,
}
"""A step whose every advantage is 0: no forward pass was run, so some numbers do not exist."""


class Clock:
    """Seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Stop:
    """Asked for by a first Ctrl-C; a second one cancels the training task."""

    def __init__(self, display: Display) -> None:
        self.asked = False
        self.promise = "finishing the first evaluation; nothing is trained yet, so nothing is saved"
        """What is still done before the end."""
        self._display, self._task = display, asyncio.current_task()
        # outside the main thread, or without POSIX signals, Ctrl-C ends at once
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)

    def _interrupt(self) -> None:
        if self.asked and self._task is not None:
            self._task.cancel()
            return
        self.asked = True
        self._display.note(f"{self.promise}; press Ctrl-C again to stop at once")
