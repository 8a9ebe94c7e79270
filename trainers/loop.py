"""The training loop: one controller for a laptop and for a cluster.

    prompts -> Collector -> GroupBuffer -> advantages -> Learner -> WeightChannel -> pool

| part      | consumes          | produces            | waits for, unblocked by             |
|-----------|-------------------|---------------------|-------------------------------------|
| Collector | prompts           | finished groups     | the pool and the rewards' deadlines |
| buffer    | finished groups   | groups young enough | rollout.deadline_s, by put()        |
| advantages| groups            | TokenBatch          | the learner's scoring pass          |
| Learner   | TokenBatch        | new weights         | its own collectives' deadline       |
| channel   | weights, version  | the pool at version | rollout.deadline_s, by every engine |

With max_staleness 0 the collector starts only after the channel has published, so the five run one
after the other. All of them carry versions, so that sampling could run ahead of training.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch

from rlnorm.algorithms import Algorithm
from rlnorm.rewards.json_values import as_text
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.advantages import (
    AdvantageBatch,
    compute_advantages,
    minibatches,
    prepare_minibatch,
    rescale_metrics,
)
from rlnorm.trainers.buffer import GroupBuffer
from rlnorm.trainers.checkpoint import LoopState, save_checkpoint
from rlnorm.trainers.collect import Collection, Collector
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.evaluate.benchmarks import Problem, evaluate_all
from rlnorm.trainers.learner.optimizer import lr_schedule
from rlnorm.trainers.learner.types import Learner
from rlnorm.trainers.prompt_stream import source_metrics
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.record.loggers import Loggers
from rlnorm.trainers.record.rollouts import write_rollouts
from rlnorm.trainers.record.run_dir import RunDir
from rlnorm.trainers.record.warnings import Watch
from rlnorm.trainers.rollout.sampler import Sampler
from rlnorm.trainers.rollout.types import RolloutPool
from rlnorm.trainers.scoring import score_table, split_baseline, weighted_sums
from rlnorm.trainers.stop import Stop
from rlnorm.trainers.sync import SyncReport, WeightChannel
from rlnorm.types import Prompt, ScoredRollouts, StepResult

Numbers = dict[str, float | None]
"""Metrics by name; None for a metric that the step does not have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunContext:
    """The parts of a run, built by rlnorm.trainers.build."""

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
    loggers: Loggers
    display: Display
    watch: Watch


async def train(run: RunContext, state: LoopState, stop: Stop) -> LoopState:
    """Run from `state` to the last step, or until `stop` is asked for."""
    config, buffer = run.config, GroupBuffer()
    lr = lr_schedule(config.learner, config.steps)
    stop.promise = "finishing the first evaluation; nothing is trained yet, so nothing is saved"
    saved = state.step
    if state.step == 0:
        await run.channel.publish(run.learner, run.pool)
        _log(run, {"step": 0, **await _evaluate(run, 0)})
    while state.step < config.steps and stop.cause is None:
        stop.promise = "finishing this step, then saving"
        step, clock = state.step + 1, Clock()
        with clock("time/step_s"):
            collection = await stop.unless_overdue(run.collector.collect(step))
            if collection is None:
                break
            buffer.put(collection.groups)
            groups, too_old = await buffer.take(
                len(collection.groups),
                version=run.learner.policy_version,
                max_staleness=config.max_staleness,
                deadline_s=config.rollout.deadline_s,
            )
            staleness = max(run.learner.policy_version - g.policy_version for g in groups)
            scored = score_table(groups, run.scorer.components)
            trained, baseline = split_baseline(scored, run.scorer.weights)
            with clock("time/learn_s"):
                batch = await compute_advantages(
                    trained, run.learner, run.algorithm, config, run.scorer.weights, baseline
                )
                results = await _learn(run, batch, step, lr(step - 1))
            with clock("time/sync_s"):
                report = await run.channel.publish(run.learner, run.pool)
        state = LoopState(
            step=step, cursor=run.collector.prompts.cursor, algorithm=run.algorithm.state_dict()
        )
        row: Numbers = {"step": step, "lr": lr(step - 1), "staleness/max": staleness}
        row |= {"staleness/dropped_groups": too_old, **clock.seconds}
        row |= step_metrics(run, trained, batch, results, collection, report)
        row["throughput/tokens_per_s"] = cast(float, row["tokens"]) / clock.seconds["time/step_s"]
        sampled = score_table([*groups, *collection.dropped], run.scorer.components)
        folder = run.run_dir.path / "rollouts"
        write_rollouts(folder, step, sampled, advantages=batch.advantages, keep=batch.keep)
        if step == config.steps or (config.eval_every and step % config.eval_every == 0):
            row |= await _evaluate(run, step)
        _log(run, row)
        await asyncio.sleep(0.001)  # handles a signal that came while blocked; 0 s is too short
        if config.checkpoint_every and step % config.checkpoint_every == 0:
            saved = await _save(run, state)
    if state.step > saved:
        await _save(run, state)
    return state


async def _save(run: RunContext, state: LoopState) -> int:
    await save_checkpoint(run.run_dir.checkpoints, run.learner, state, config=run.config)
    return state.step


async def _learn(
    run: RunContext, advantages: AdvantageBatch, step: int, lr: float
) -> list[StepResult]:
    """The optimizer steps of one RL step."""
    results = []
    for index, batch in enumerate(minibatches(advantages, run.config, step)):
        batch = await prepare_minibatch(batch, run.learner, run.algorithm, fresh=index == 0)
        if not len(batch.token_ids):
            continue
        result = rescale_metrics(await run.learner.step(batch, lr), batch)
        results.append(result)
        if result.skipped:
            run.run_dir.log_event(
                "step_skipped", step=step, minibatch=index, grad_norm=str(result.grad_norm)
            )
            run.display.note(
                f"step {step}: the gradient is not finite: the weights are not changed, the batch "
                f"is saved in {run.run_dir.path / 'faults'}"
            )
        else:
            run.algorithm.after_step({"entropy": result.metrics["policy/entropy"]})
    if not results:
        run.run_dir.log_event("nothing_to_learn", step=step)
    return results


async def _evaluate(run: RunContext, step: int) -> dict[str, float]:
    """Evaluate, save all verdicts in `eval/step_*/`, show a few rollouts."""
    metrics, problems = await evaluate_all(
        run.benchmarks, run.sampler, run.scorer, run.tokenizer, run.config
    )
    folder = run.run_dir.path / "eval" / f"step_{step:06d}"
    for name, rows in problems.items():
        run.run_dir.write_jsonl(folder / f"{name}.jsonl", [p.row() for p in rows])
    shown = [p for rows in problems.values() for p in rows[: run.config.logging.sample_rollouts]]
    _show(run, step, shown[: run.config.logging.sample_rollouts])
    return metrics


def _show(run: RunContext, step: int, problems: Sequence[Problem]) -> None:
    rows = [
        (p.prompt.messages[-1]["content"], p.sampled_text, as_text(p.prompt.answer), p.sampled[0])
        for p in problems
    ]
    columns = ("prompt", "sampled completion", "answer", "reward")
    run.display.rollouts(step, columns, rows)
    run.loggers.table(step, columns, rows)


def _log(run: RunContext, row: dict[str, Any]) -> None:
    run.run_dir.log_metrics(row)
    run.loggers.log(int(row["step"]), row)
    run.display.step(row)
    for warning in run.watch.observe(row):
        run.run_dir.log_event("warning", **asdict(warning))
        run.display.note(str(warning))


def step_metrics(
    run: RunContext,
    scored: ScoredRollouts,
    batch: AdvantageBatch,
    results: Sequence[StepResult],
    collection: Collection,
    sync: SyncReport,
) -> Numbers:
    """The metrics of one step."""
    masks = [r.completion.policy_mask for r in scored.rollouts]
    lengths = torch.tensor([float(mask.sum()) for mask in masks])
    totals = weighted_sums(scored, run.scorer.weights)
    row: Numbers = {
        "reward/mean": float(totals.nanmean()),
        "completion/tokens_mean": float(lengths.mean()),
        "completion/most_common_frac": _most_common_frac(scored),
        "completion/truncated_frac": float(scored.truncated.double().mean()),
        "group/zero_signal_frac": batch.zero_signal_frac,
        "group/dropped": len(collection.dropped),
        "group/rounds": collection.rounds,
        "time/rollout_s": collection.rollout_s,
        "time/reward_s": collection.reward_s,
        "sync/parity_gap": sync.parity_gap,
        "tokens": float(lengths.sum()),
        **collection.reward_metrics,
        **source_metrics(run.collector.prompts.names, scored, totals),
    }
    for index, name in enumerate(scored.reward_names):
        row[f"reward/{name}"] = float(scored.rewards[:, index].nanmean())
    return row | (_learner_metrics(results) if results else NOTHING_LEARNT)


def _most_common_frac(scored: ScoredRollouts) -> float:
    """Share of the completions that are the same, token by token, as the most frequent one."""
    counts = Counter(r.completion.token_ids.numpy().tobytes() for r in scored.rollouts)
    return max(counts.values()) / len(scored.rollouts)


def _learner_metrics(results: Sequence[StepResult]) -> Numbers:
    """Means over the optimizer steps; the sampler gap is that of the first, the on-policy one."""
    names = sorted({name for r in results for name in r.metrics})
    row: Numbers = {
        name: sum(r.metrics.get(name, 0.0) for r in results) / len(results) for name in names
    }
    for name in ("policy/kl_sampler", "policy/logprob_gap_mean"):
        row[name] = results[0].metrics[name]
    row["loss"] = sum(r.loss for r in results) / len(results)
    row["grad_norm"] = sum(r.grad_norm for r in results) / len(results)
    row["learner/skipped_steps"] = sum(r.skipped for r in results)
    row["policy/version"] = results[-1].policy_version
    return row


NOTHING_LEARNT: Numbers = {
    "loss": 0.0,
    "grad_norm": 0.0,
    "learner/skipped_steps": 0,
    "policy/clip_frac": 0.0,
    "policy/entropy": None,
    "policy/kl_sampler": None,
    "policy/logprob_gap_mean": None,
}
"""Of a step in which every advantage is 0: without a forward pass some metrics do not exist."""


class Clock:
    """Measures seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
