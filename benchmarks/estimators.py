"""Time every estimator: python benchmarks/estimators.py [--repeats N].

1,024 prompts x 16 rollouts x 3 components (target 20 ms), and 100,000 rollouts in ragged groups
(target 0.5 s), each on one core, the median processor time of the repeats; and how time grows from
25,000 to 100,000. verl's functions are timed beside in the same run where it is installed (TRL's
advantages are lines of its trainer, no function). Writes benchmarks/results/estimators.json.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from record import RESULTS, conditions, keep

from rlnorm.advantages import ESTIMATORS
from rlnorm.stages import data_of

OPTIONS = {"bnpo": {"min_value": -1.0, "max_value": 1.0}, "mapo_certainty": {"weights": [1, 0, 0]}}
TOKENS = 4
"""Trained tokens of each rollout, for the estimators that work on tokens."""


def columns(sizes: torch.Tensor, components: int) -> dict[str, torch.Tensor]:
    """Binary rewards of groups of the given sizes, in random order."""
    generator = torch.Generator().manual_seed(0)
    group_index = torch.arange(len(sizes)).repeat_interleave(sizes)
    group_index = group_index[torch.randperm(len(group_index), generator=generator)]
    n = len(group_index)
    rewards = torch.randint(0, 2, (n, components), generator=generator).double()
    rollout_index = torch.arange(n).repeat_interleave(TOKENS)
    logprobs = -torch.rand(n * TOKENS, generator=generator, dtype=torch.float64)
    return {
        "rewards": rewards,
        "turn_rewards": rewards,
        "group_index": group_index,
        "lengths": torch.full((n,), TOKENS),
        "greedy_rewards": rewards[:, 0],
        "rollout_index": rollout_index,
        "old_logprobs": logprobs,
        "ref_logprobs": logprobs,
        "sum_p2": logprobs.exp(),
    }


def median_s(call: Callable[[], Any], repeats: int) -> float:
    """Median processor time of the one thread, after one call that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times)


def estimate(name: str, data: dict[str, torch.Tensor]) -> Callable[[], Any]:
    """A call of an estimator with the columns it names."""
    function = ESTIMATORS[name]
    needed, _ = data_of(function)
    chosen = {column: data[column] for column in needed}
    return lambda: function(**chosen, **OPTIONS.get(name, {}))


def peers(data: dict[str, torch.Tensor]) -> dict[str, Callable[[], Any]]:
    """The same work by verl's functions, where verl is installed."""
    found: dict[str, Callable[[], Any]] = {}
    try:
        verl = importlib.import_module("verl.trainer.ppo.core_algos")
    except ImportError as error:
        print(f"verl not importable, not timed: {error}")
        return found
    token_rewards = torch.zeros(len(data["group_index"]), TOKENS, dtype=torch.float64)
    token_rewards[:, -1] = data["rewards"].sum(dim=1)
    mask, index = torch.ones_like(token_rewards), data["group_index"].numpy()
    for name in ("grpo", "rloo", "opo"):
        function = getattr(verl, f"compute_{name}_outcome_advantage")
        found[f"verl {name}"] = lambda f=function: f(token_rewards.clone(), mask, index=index)
    return found


def main() -> None:
    """Print one table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    square = columns(torch.full((1024,), 16), 3)
    sizes = torch.randint(1, 32, (1, 12_000), generator=torch.Generator().manual_seed(1))[0]
    ragged = columns(sizes[: int((sizes.cumsum(0) <= 100_000).sum())], 3)
    quarter = columns(sizes[: int((sizes.cumsum(0) <= 25_000).sum())], 3)
    rows: dict[str, dict[str, float]] = {}
    print(f"{'estimator':20s} {'1024x16x3':>12s} {'100k ragged':>12s} {'4x the rows':>12s}")
    for name in ESTIMATORS:
        small = median_s(estimate(name, square), repeats)
        large = median_s(estimate(name, ragged), repeats)
        growth = large / median_s(estimate(name, quarter), repeats)
        rows[name] = {"square_s": small, "ragged_s": large, "growth": growth}
        print(f"{name:20s} {small * 1e3:9.2f} ms {large * 1e3:9.1f} ms {growth:11.1f}x")
    for name, call in peers(square).items():
        rows[name] = {"square_s": median_s(call, repeats)}
        print(f"{name:20s} {rows[name]['square_s'] * 1e3:9.2f} ms")
    keep(conditions("torch", "verl") | {"rows": rows}, RESULTS / "estimators.json")


if __name__ == "__main__":
    main()
