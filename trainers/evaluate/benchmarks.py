"""Benchmarks: greedy accuracy, and avg@k and pass@k of sampled completions."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.files import finite
from rlnorm.trainers.record.verdicts import best, known, mean
from rlnorm.trainers.rollout.sampler import Sampler, make_rollout
from rlnorm.trainers.rollout.types import sampling_params
from rlnorm.trainers.scoring import score_rollouts
from rlnorm.trainers.seeds import derive_seed
from rlnorm.types import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One benchmark problem with its verdicts."""

    prompt: Prompt
    greedy: float
    """1 correct, 0 wrong, NaN if the verifier failed."""
    sampled: tuple[float, ...]
    greedy_text: str
    sampled_text: str
    tokens_mean: float

    def row(self) -> dict[str, Any]:
        """One line of `eval/step_*/<benchmark>.jsonl`."""
        return {
            "id": self.prompt.prompt_id,
            "level": self.prompt.level,
            "answer": self.prompt.answer,
            "greedy": finite(self.greedy),
            "sampled": finite(self.sampled),
            "greedy_text": self.greedy_text,
            "sampled_text": self.sampled_text,
            "tokens_mean": self.tokens_mean,
        }


async def evaluate(
    prompts: Sequence[Prompt], sampler: Sampler, scorer: Scorer, tokenizer: Any, config: Config
) -> list[Problem]:
    """One greedy and `eval_samples` sampled completions of each prompt.

    Seeds do not depend on the step, so two evaluations differ only in the weights. A completion is
    correct by `Scorer.verdict`.
    """
    k = config.eval_samples
    seeds = [[derive_seed(config.seed, "eval", p.prompt_id, i) for i in range(k)] for p in prompts]
    likeliest = sampling_params(config.rollout, temperature=0.0)
    greedy = await sampler.sample(prompts, [[0]] * len(prompts), likeliest)
    sampled = await sampler.sample(prompts, seeds, sampling_params(config.rollout))
    flat = [
        (make_rollout(p, s, f"{p.prompt_id}/{i}", tokenizer), p.prompt_id)
        for p, first, rest in zip(prompts, greedy, sampled, strict=True)
        for i, s in enumerate([*first, *rest])
    ]
    scores = await score_rollouts(scorer, flat)
    verdicts = [scorer.verdict(row) for row in scores]
    out = []
    for i, prompt in enumerate(prompts):
        own = slice(i * (k + 1), (i + 1) * (k + 1))
        rollouts, (first, *rest) = [r for r, _ in flat[own]], verdicts[own]
        lengths = [int(r.completion.policy_mask.sum()) for r in rollouts[1:]]
        out.append(
            Problem(
                prompt=prompt,
                greedy=first,
                sampled=tuple(rest),
                greedy_text=rollouts[0].text,
                sampled_text=rollouts[1].text,
                tokens_mean=sum(lengths) / k,
            )
        )
    return out


def summarize(problems: Sequence[Problem], name: str) -> dict[str, float]:
    """`eval/<name>/greedy`, `avg@k`, `pass@k`, `tokens_mean`, `failed_frac`.

    Failed verdicts are left out, not counted as wrong.
    """
    greedy = known(p.greedy for p in problems)
    flat = known(v for p in problems for v in p.sampled)
    asked = sum(1 + len(p.sampled) for p in problems)
    solved = mean(best(p.sampled) for p in problems)
    k = len(problems[0].sampled)
    return {
        f"eval/{name}/greedy": mean(greedy),
        f"eval/{name}/avg@{k}": mean(flat),
        f"eval/{name}/avg@k": mean(flat),
        f"eval/{name}/pass@{k}": solved,
        f"eval/{name}/pass@k": solved,
        f"eval/{name}/tokens_mean": mean(p.tokens_mean for p in problems),
        f"eval/{name}/failed_frac": 1 - (len(greedy) + len(flat)) / asked,
    }


async def evaluate_all(
    benchmarks: Mapping[str, Sequence[Prompt]],
    sampler: Sampler,
    scorer: Scorer,
    tokenizer: Any,
    config: Config,
) -> tuple[dict[str, float], dict[str, list[Problem]]]:
    """Metrics of all benchmarks with `time/eval_s`, and the problems of each."""
    start = time.perf_counter()
    metrics: dict[str, float] = {}
    problems: dict[str, list[Problem]] = {}
    for name, prompts in benchmarks.items():
        problems[name] = await evaluate(prompts, sampler, scorer, tokenizer, config)
        metrics |= summarize(problems[name], name)
    metrics["time/eval_s"] = time.perf_counter() - start
    return metrics, problems
