"""Checks and loads the inputs of a run before anything starts or is written."""

from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from rlnorm.algorithms import Algorithm
from rlnorm.errors import InputError
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.config.resolve import build_algorithm, build_scorer
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.models import load_model_config, load_tokenizer
from rlnorm.trainers.prompts import check_tokens, context_left, load_prompts, problem_prompts
from rlnorm.trainers.rollout.environment import resolve_environment
from rlnorm.trainers.scoring import check_reward_rows
from rlnorm.types import Prompt

REPORTED_PROBLEMS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The checked inputs of a run."""

    config: Config
    algorithm: Algorithm
    scorer: Scorer
    tokenizer: Any
    train: list[Prompt]
    benchmarks: dict[str, list[Prompt]]


async def prepare(config: Config) -> Prepared:
    """Load algorithm, rewards, tokenizer and prompts without starting a process."""
    algorithm, scorer = build_algorithm(config), build_scorer(config)
    tokenizer = load_tokenizer(config.model.path)
    train, benchmarks = await load_all_prompts(config, tokenizer)
    sources = {f"data.eval.{name}": prompts for name, prompts in benchmarks.items()}
    check_reward_rows(scorer, {"data.train": train, **sources})
    return Prepared(
        config=config,
        algorithm=algorithm,
        scorer=scorer,
        tokenizer=tokenizer,
        train=train,
        benchmarks=benchmarks,
    )


async def load_all_prompts(
    config: Config, tokenizer: Any
) -> tuple[list[Prompt], dict[str, list[Prompt]]]:
    """Rendered training prompts and benchmarks; InputError if they share a prompt."""
    sources = config.data.eval
    if config.rollout.environment is not None:
        # an environment has separate splits of its own
        async with aclosing(resolve_environment(config)) as spec:
            prompts_of = partial(problem_prompts, spec, ChatTokenizer(tokenizer))
            train = (await prompts_of(config.data.train))[: config.data.train_limit]
            return train, {name: await prompts_of(source) for name, source in sources.items()}
    model_config = load_model_config(config.model.path)
    longest = context_left(model_config, config.rollout)
    load = partial(load_prompts, config=config.data, tokenizer=tokenizer, longest=longest)
    train = load(config.data.train)[: config.data.train_limit]
    benchmarks = {name: load(source) for name, source in sources.items()}
    check_tokens([*train, *(p for prompts in benchmarks.values() for p in prompts)], model_config)
    seen = {p.token_ids for p in train}
    for name, prompts in benchmarks.items():
        shared = [p.prompt_id for p in prompts if p.token_ids in seen]
        if shared:
            raise InputError(
                f"data.eval.{name}: {len(shared)} of {len(prompts)} prompts are also training "
                f"prompts, for example {', '.join(shared[:REPORTED_PROBLEMS])}"
            )
    return train, benchmarks
