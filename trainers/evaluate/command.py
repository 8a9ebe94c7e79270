"""`rlnorm eval`: evaluate a model on the config's benchmarks, without a learner."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import TimeRemainingColumn
from rich.table import Table

from rlnorm.rewards.errors import RewardError
from rlnorm.trainers.config.check import at_checkpoint
from rlnorm.trainers.config.resolve import build_scorer
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.evaluate.benchmarks import Problem, evaluate, summarize
from rlnorm.trainers.learner.build import build_device, seed_everything
from rlnorm.trainers.learner.model import load_model, plain_model
from rlnorm.trainers.models import load_tokenizer
from rlnorm.trainers.prepare import load_all_prompts
from rlnorm.trainers.record.display import progress_bars
from rlnorm.trainers.record.run_dir import RunDir
from rlnorm.trainers.record.verdicts import LEVEL, best, mean, mean_interval
from rlnorm.trainers.rollout.sampler import Sampled, Sampler, build_sampler
from rlnorm.trainers.rollout.types import RolloutPool, SamplingParams
from rlnorm.types import Prompt

log = logging.getLogger(__name__)
SLICE = 4096
"""Completions requested at once: enough to keep engines busy, few enough to show progress."""


async def run_evaluation(
    config: Config, checkpoint: Path | None, out: Path | None, console: Console | None = None
) -> dict[str, float]:
    """Print greedy, avg@k and pass@k with intervals; write the verdicts to `out` if given."""
    config = at_checkpoint(config, checkpoint)
    seed_everything(config)
    console = console or Console()
    problems: dict[str, list[Problem]] = {}
    async with AsyncExitStack() as stack:
        scorer, tokenizer = build_scorer(config), load_tokenizer(config.model.path)
        stack.push_async_callback(scorer.close)
        loaded = await load_all_prompts(config, tokenizer, scorer)
        for notice in loaded.notices:
            console.print(notice.text, highlight=False, markup=False)
        with console.status("loading the model"):
            pool = await start_pool(config, tokenizer, stack)
        sampler = build_sampler(config, pool, tokenizer)
        stack.push_async_callback(sampler.close)
        bars = stack.enter_context(progress_bars(console, "completions", TimeRemainingColumn()))
        for name, prompts in loaded.benchmarks.items():
            bar = bars.add_task(name, total=len(prompts) * (1 + config.eval_samples))
            watched = Watched(sampler, partial(bars.advance, bar))
            try:
                problems[name] = await evaluate(prompts, watched, scorer, tokenizer, config)
            except RewardError as error:
                raise RunError(str(error)) from error
    metrics = {k: v for name, rows in problems.items() for k, v in summarize(rows, name).items()}
    console.print(verdict_table(config, metrics, problems))
    if out is not None:  # after the table, so that a full disk does not lose the results
        _write_verdicts(out, problems)
    return metrics


def _write_verdicts(out: Path, problems: Mapping[str, Sequence[Problem]]) -> None:
    try:
        for name, rows in problems.items():
            RunDir(out).write_jsonl(out / f"{name}.jsonl", [p.row() for p in rows])
    except OSError as error:
        raise RunError(f"--out {out}: {error.strerror}; the verdicts were not saved") from error


async def start_pool(config: Config, tokenizer: Any, stack: AsyncExitStack) -> RolloutPool:
    """The config's pool, started with the weights of its model; `stack` closes it."""
    if config.rollout.backend == "vllm":
        from rlnorm.trainers.build_cluster import vllm_pool
        from rlnorm.trainers.cluster.ray import Cluster

        cluster = await asyncio.to_thread(Cluster.connect, address=config.cluster.address)
        stack.callback(cluster.close)
        pool: RolloutPool = vllm_pool(config, cluster, lambda event: log.warning("%s", dict(event)))
    else:
        from rlnorm.trainers.rollout.local import LocalPool

        # checkpoints of a LoRA run hold merged weights, so the model is loaded without adapters
        model = load_model(plain_model(config.model)).to(build_device())
        pool = LocalPool(model, tokenizer=tokenizer, deadline_s=config.rollout.deadline_s)
    stack.push_async_callback(pool.close)
    await pool.start()
    return pool


class Watched:
    """A `Sampler` that calls another one slice by slice and reports the size of each slice."""

    def __init__(self, sampler: Sampler, report: Callable[[int], None], size: int = SLICE) -> None:
        self._sampler, self._report, self._size = sampler, report, size

    async def sample(
        self, prompts: Sequence[Prompt], seeds: Sequence[Sequence[int]], sampling: SamplingParams
    ) -> list[list[Sampled]]:
        out: list[list[Sampled]] = []
        step = max(1, self._size // max(len(own) for own in seeds))
        for start in range(0, len(prompts), step):
            part = slice(start, start + step)
            out += await self._sampler.sample(prompts[part], seeds[part], sampling)
            self._report(sum(len(own) for own in seeds[part]))
        return out

    async def close(self) -> None:
        await self._sampler.close()


def verdict_table(
    config: Config, metrics: Mapping[str, float], problems: Mapping[str, Sequence[Problem]]
) -> Table:
    """One row per benchmark; failed verdicts are left out of all numbers."""
    k = config.eval_samples
    method = "Wilson" if k == 1 else "Wilson; avg@k: bootstrap"
    title = f"{config.model.path}: accuracy with {LEVEL:.0%} intervals over problems ({method})"
    table = Table(title=title)
    for name in ("benchmark", "problems", "greedy", f"avg@{k}", f"pass@{k}", "tokens"):
        table.add_column(name, justify="left" if name == "benchmark" else "right")
    for name, rows in problems.items():
        values = {
            "greedy": [p.greedy for p in rows],
            "avg@k": [mean(p.sampled) for p in rows],
            "pass@k": [best(p.sampled) for p in rows],
        }
        cells = [_cell(metrics[f"eval/{name}/{key}"], v) for key, v in values.items()]
        tokens = f"{metrics[f'eval/{name}/tokens_mean']:.1f}"
        table.add_row(name, str(len(rows)), *cells, tokens)
    return table


def _cell(value: float, by_problem: Sequence[float]) -> str:
    low, high = mean_interval(by_problem)
    return f"{value:.1%}\n{100 * low:.1f} to {100 * high:.1f}"
