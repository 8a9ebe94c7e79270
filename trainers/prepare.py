"""Checks and loads the inputs of a run before anything starts or is written."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from rlnorm.algorithms import Algorithm
from rlnorm.errors import InputError
from rlnorm.rewards.data.problems import SHOWN, short
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.config.resolve import build_algorithm, build_scorer
from rlnorm.trainers.config.rows import forget_rows
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.config.sources import DataSource, data_sources
from rlnorm.trainers.learner.model import check_lora
from rlnorm.trainers.models import check_end_token, load_model_config, load_tokenizer
from rlnorm.trainers.prompts import (
    Notice,
    check_tokens,
    load_prompts,
    problem_prompts,
    prompt_limit,
)
from rlnorm.trainers.rollout.environment import resolve_environment
from rlnorm.trainers.scoring import check_reward_rows
from rlnorm.trainers.template_checks import template_notices
from rlnorm.types import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedPrompts:
    """The rendered prompts of a run."""

    train: list[Prompt]
    benchmarks: dict[str, list[Prompt]]
    notices: tuple[Notice, ...]
    """What was left out or is odd."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The checked inputs of a run."""

    config: Config
    algorithm: Algorithm
    scorer: Scorer
    tokenizer: Any
    prompts: LoadedPrompts


async def prepare(config: Config) -> Prepared:
    """Load algorithm, rewards, tokenizer and prompts without starting a process."""
    algorithm, scorer = build_algorithm(config), build_scorer(config)
    tokenizer = load_tokenizer(config.model.path)
    check_end_token(tokenizer, load_model_config(config.model.path))
    check_lora(config.model)
    prompts = await load_all_prompts(config, tokenizer, scorer)
    return Prepared(
        config=config,
        algorithm=algorithm,
        scorer=scorer,
        tokenizer=tokenizer,
        prompts=prompts,
    )


async def load_all_prompts(config: Config, tokenizer: Any, scorer: Scorer) -> LoadedPrompts:
    """Rendered training prompts and benchmarks; InputError if they share a prompt or hold one that
    no reward is for."""
    train, benchmarks, notices = list[Prompt](), dict[str, list[Prompt]](), list[Notice]()
    if config.rollout.environment is not None:
        # an environment has separate splits of its own
        async with aclosing(resolve_environment(config)) as spec:
            for source in data_sources(config.data):
                prompts = await problem_prompts(spec, ChatTokenizer(tokenizer), source.text)
                _place(source, prompts, config, train, benchmarks)
    else:
        model_config = load_model_config(config.model.path)
        limit = prompt_limit(model_config, config.rollout, config.data.max_prompt_tokens)
        for source in data_sources(config.data):
            prompts, found = load_prompts(
                source, config=config.data, tokenizer=tokenizer, scorer=scorer, limit=limit
            )
            check_tokens(prompts, model_config)
            _place(source, prompts, config, train, benchmarks)
            notices += found
        forget_rows()
        _check_apart(train, benchmarks)
    sources = {f"data.eval.{name}": prompts for name, prompts in benchmarks.items()}
    check_reward_rows(scorer, {"data.train": train, **sources})
    notices += template_notices(
        [*train, *(p for own in benchmarks.values() for p in own)], tokenizer
    )
    return LoadedPrompts(train=train, benchmarks=benchmarks, notices=tuple(notices))


def _place(
    source: DataSource,
    prompts: list[Prompt],
    config: Config,
    train: list[Prompt],
    benchmarks: dict[str, list[Prompt]],
) -> None:
    """Add the prompts of one source to the training prompts or the benchmarks."""
    if source.key.startswith("data.eval."):
        benchmarks[source.key.removeprefix("data.eval.")] = prompts
    else:
        train += prompts[: config.data.train_limit]


def _check_apart(train: Sequence[Prompt], benchmarks: Mapping[str, Sequence[Prompt]]) -> None:
    seen = {p.token_ids for p in train}
    for name, prompts in benchmarks.items():
        shared = [p.prompt_id for p in prompts if p.token_ids in seen]
        if shared:
            raise InputError(
                f"data.eval.{name}: {len(shared)} of {len(prompts)} prompts are also training "
                f"prompts, for example {', '.join(map(short, shared[:SHOWN]))}"
            )
