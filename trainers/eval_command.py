"""`rlnorm eval`: a model on the config's benchmarks, without a learner."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rewards.errors import InputError
from trainers.build import build_prompts, build_sampler, seed_everything
from trainers.config import Config
from trainers.evaluation import Problem, evaluate_all
from trainers.models import load_model, load_tokenizer
from trainers.precheck import build_scorer
from trainers.run_dir import RunDir


async def run_evaluation(
    config: Config, checkpoint: Path | None, out: Path | None, console: Console | None = None
) -> dict[str, float]:
    """Greedy, avg@k and pass@k with their standard errors; verdicts to `out` where given."""
    if not config.data.eval:
        raise InputError("data.eval is empty: name a benchmark, such as data.eval.chain=task:chain")
    if checkpoint is not None:
        folder = checkpoint / "model" if (checkpoint / "model").is_dir() else checkpoint
        model = config.model.model_copy(update={"path": str(folder)})
        config = config.model_copy(update={"model": model})
    seed_everything(config)
    scorer, tokenizer = build_scorer(config), load_tokenizer(config.model.path)
    _, benchmarks = await build_prompts(config, tokenizer)
    pool = build_local_pool(config, tokenizer)
    await pool.start()
    sampler = build_sampler(config, pool, tokenizer)
    console = console or Console()
    with console.status("sampling and scoring"):
        try:
            metrics, problems = await evaluate_all(benchmarks, sampler, scorer, tokenizer, config)
        finally:
            await pool.close()
            await scorer.close()
    if out is not None:
        for name, rows in problems.items():
            RunDir(out).write_jsonl(out / f"{name}.jsonl", [p.row() for p in rows])
    console.print(_table(config, metrics, problems))
    return metrics


def build_local_pool(config: Config, tokenizer: object):  # type: ignore[no-untyped-def]
    """A pool in this process over the config's model."""
    from trainers.build import build_device
    from trainers.rollout.local import LocalPool

    model = load_model(config.model).to(build_device())
    return LocalPool(model, tokenizer=tokenizer, deadline_s=config.rollout.deadline_s)


def _table(config: Config, metrics: dict[str, float], problems: dict[str, list[Problem]]) -> Table:
    k = config.eval_samples
    table = Table(title=f"{config.model.path}: accuracy ± standard error over problems")
    for name in ("benchmark", "problems", "greedy", f"avg@{k}", f"pass@{k}", "tokens"):
        table.add_column(name, justify="left" if name == "benchmark" else "right")
    for name, rows in problems.items():
        values = {
            "greedy": [p.greedy for p in rows],
            "avg@k": [sum(p.sampled) / k for p in rows],
            "pass@k": [max(p.sampled) for p in rows],
        }
        cells = [
            f"{metrics[f'eval/{name}/{key}']:.1%} ± {_standard_error(v):.1%}"
            for key, v in values.items()
        ]
        tokens = f"{metrics[f'eval/{name}/tokens_mean']:.1f}"
        table.add_row(name, str(len(rows)), *cells, tokens)
    return table


def _standard_error(values: list[float]) -> float:
    """Of the mean over problems; verdicts that failed are left out."""
    known = [v for v in values if v == v]
    if len(known) < 2:
        return math.nan
    mean = sum(known) / len(known)
    return math.sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1) / len(known))
