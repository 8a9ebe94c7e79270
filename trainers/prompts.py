"""Renders the rows of a data source as prompts, and draws them in a seeded order."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import TemplateError

from rlnorm.errors import InputError
from rlnorm.rewards.data.problems import ProblemRow, load_problems
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.trainers.config.schema import DataConfig, RolloutConfig
from rlnorm.trainers.config.sources import (
    ENV_SIZES,
    TASK_SIZES,
    check_source,
    of_key,
    parse_hub_source,
)
from rlnorm.trainers.models import context_length
from rlnorm.trainers.rollout.environment import Environment
from rlnorm.trainers.seeds import shuffled
from rlnorm.trainers.tasks import generate_split
from rlnorm.types import Prompt

log = logging.getLogger(__name__)


def load_prompts(
    source: str, *, config: DataConfig, tokenizer: Any, longest: int | None
) -> list[Prompt]:
    """The rendered prompts of one data source; rows that are left out are logged."""
    names = {s: f"data.eval.{n}" for n, s in config.eval.items()} | {config.train: "data.train"}
    rows = load_rows(source, config.fields, key=names.get(source, "data source"))
    return render(rows, tokenizer, config, longest=longest)


def load_rows(
    source: str, fields: Mapping[str, str], *, key: str = "data source"
) -> list[ProblemRow]:
    """The rows of `task:NAME[:SPLIT]`, a .jsonl or .parquet file, `hf:...` or `FORMAT=FILE`."""
    of_key(key, source, check_source, source, False)
    if source.startswith("task:"):
        return _task_rows(source)
    hub = of_key(key, source, parse_hub_source, source)
    data_format, equals, path = source.partition("=")
    if hub is not None:
        load = partial(load_problems, str(hub.name), fields=fields, format=hub.format)
        rows, report = of_key(key, source, partial(load, subset=hub.subset, split=hub.split))
    else:
        rows, report = load_problems(
            path if equals else source, format=data_format if equals else None, fields=fields
        )
    if report.dropped:
        log.warning("%s: %s", source, report.summary())
    return rows


def _task_rows(source: str) -> list[ProblemRow]:
    _, name, *rest = source.split(":")
    split = rest[0] if rest else "train"
    return [
        ProblemRow(
            id=p.id,
            question=p.question,
            answer=p.answer,
            source=source,
            level=p.level,
            meta=dict(p.extras),
        )
        for p in generate_split(name, split, TASK_SIZES[split])
    ]


async def problem_prompts(
    environment: Environment, tokenizer: ChatTokenizer, source: str
) -> list[Prompt]:
    """The prompts of `env:train` or `env:test`, one per problem of the environment."""
    of_key("data source", source, check_source, source, True)
    split = source.removeprefix("env:")
    prompts, context = [], environment.limits.context_tokens
    for seed in range(ENV_SIZES[split]):
        messages = tuple(await environment.make(split).reset(seed))
        token_ids = tuple(tokenizer.open(messages))
        if context is not None and len(token_ids) >= context:
            raise InputError(
                f"rollout.environment: the first prompt of problem {seed} of {source} has "
                f"{len(token_ids)} tokens, but the context holds {context}, including the "
                "completion; use shorter problems or a model.path with a longer context"
            )
        prompts.append(
            Prompt(
                prompt_id=f"{split}-{seed:05d}",
                token_ids=token_ids,
                source=source,
                messages=messages,
                extras={"split": split, "problem_seed": seed},
            )
        )
    return prompts


def render(
    rows: Sequence[ProblemRow], tokenizer: Any, config: DataConfig, *, longest: int | None
) -> list[Prompt]:
    """The prompts as token ids. longest: maximum tokens of a prompt."""
    prompts = []
    for row in rows:
        messages = _messages(row, config.system_prompt)
        try:
            token_ids = _token_ids(tokenizer, messages)
        except TemplateError as error:
            raise InputError(
                f"prompt {row.id!r} of {row.source}: the model's chat template rejects its "
                f"messages ({', '.join(m['role'] for m in messages)}): {error}"
            ) from error
        if longest is not None and len(token_ids) > longest:
            raise InputError(
                f"prompt {row.id!r} of {row.source}: {len(token_ids)} tokens, but the model's "
                f"context leaves {longest} in addition to rollout.max_tokens"
            )
        prompts.append(
            Prompt(
                prompt_id=row.id,
                token_ids=token_ids,
                answer=row.answer,
                source=row.source,
                level=row.level,
                messages=tuple(messages),
                extras=row.meta,
            )
        )
    return prompts


def _messages(row: ProblemRow, system_prompt: str | None) -> list[Mapping[str, str]]:
    """The row's conversation or question, after the config's system message unless it has one."""
    messages = row.messages or ({"role": "user", "content": row.question},)
    if system_prompt is None or messages[0]["role"] == "system":
        return list(messages)
    return [{"role": "system", "content": system_prompt}, *messages]


def _token_ids(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
    if tokenizer.chat_template is None:
        return tuple(tokenizer("\n".join(m["content"] for m in messages)).input_ids)
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    return tuple(encoded["input_ids"])


def check_tokens(prompts: Sequence[Prompt], model_config: Any) -> None:
    """Refuse a prompt without tokens, or with a token that the model has no embedding for."""
    rows = model_config.get_text_config().vocab_size
    for prompt in prompts:
        if not prompt.token_ids:
            raise InputError(f"prompt {prompt.prompt_id!r} of {prompt.source}: has no tokens")
        if max(prompt.token_ids) >= rows:
            raise InputError(
                f"prompt {prompt.prompt_id!r} of {prompt.source}: has token "
                f"{max(prompt.token_ids)}, but the model embeds {rows}; the tokenizer in "
                "model.path does not match its weights"
            )


def context_left(model_config: Any, rollout: RolloutConfig) -> int | None:
    """Maximum tokens of a prompt; None if neither the model nor the engines state a limit."""
    max_tokens, engines = rollout.max_tokens, rollout.engine_options.get("max_model_len")
    stated = [context_length(model_config), engines if isinstance(engines, int) else None]
    context = min((n for n in stated if n is not None and n > 0), default=None)
    if context is None:
        return None
    if context <= max_tokens:
        raise InputError(
            f"rollout.max_tokens = {max_tokens}: the model's context is {context} tokens, "
            "and the prompt needs some of them"
        )
    return context - max_tokens


class PromptStream:
    """The training prompts, reshuffled each epoch; `cursor` is its only state."""

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self._prompts, self._seed = prompts, seed
        self.cursor = 0
        self._epoch = -1
        self._order: list[int] = []

    def draw(self, count: int) -> list[Prompt]:
        """The next prompts of the seeded order."""
        out = []
        for _ in range(count):
            epoch, offset = divmod(self.cursor, len(self._prompts))
            if epoch != self._epoch:
                self._order = shuffled(range(len(self._prompts)), self._seed, "epoch", epoch)
                self._epoch = epoch
            out.append(self._prompts[self._order[offset]])
            self.cursor += 1
        return out
