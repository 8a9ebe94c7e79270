"""Renders the rows of a data source as prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlnorm.errors import InputError
from rlnorm.rewards.data.problems import SHOWN, ProblemRow, short
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.config.rows import row_columns, usable_rows
from rlnorm.trainers.config.schema import DataConfig, RolloutConfig
from rlnorm.trainers.config.sources import (
    ENV_SIZES,
    DataSource,
    check_source,
)
from rlnorm.trainers.config.template import messages_of, prompt_tokens
from rlnorm.trainers.models import context_length
from rlnorm.trainers.rollout.environment import Environment
from rlnorm.types import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What loading has left out or found odd: a line for the terminal, and an event."""

    text: str
    event: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """The most tokens of a prompt, and what sets it."""

    tokens: int
    why: str


def load_prompts(
    source: DataSource, *, config: DataConfig, tokenizer: Any, scorer: Scorer, limit: Limit | None
) -> tuple[list[Prompt], list[Notice]]:
    """The rendered prompts of one data source, and a notice of the rows that are left out.

    Raises InputError if no prompt is left, or with data.on_bad_row: error if any is left out.
    """
    rows, report = usable_rows(source, scorer, config.on_bad_row)
    rendered = render(rows, tokenizer, config, name=source.name)
    long = [p for p in rendered if limit is not None and len(p.token_ids) > limit.tokens]
    event: dict[str, Any] = {"event": "rows_dropped", "key": source.key, "source": source.text}
    told = []
    if long and limit is not None:
        told.append(_too_long(long, len(rendered), limit))
        if config.on_bad_row == "error" or len(long) == len(rendered):
            hint = ", or set data.on_bad_row: drop" if len(long) < len(rendered) else ""
            raise InputError(f"{source.key} = {source.text!r}: {told[0]}; shorten them{hint}")
        event |= {"limit": limit.tokens, "too_long": {p.prompt_id: len(p.token_ids) for p in long}}
    if report.dropped:
        told.append(report.summary())
    gone = {p.prompt_id for p in long}
    kept = [p for p in rendered if p.prompt_id not in gone]
    if not told:
        return kept, []
    if source.key.startswith("data.eval."):
        told.append(f"the benchmark is measured on the {len(kept)} rows that are left")
    event |= {"read": report.read, "kept": len(kept), "dropped": dict(report.dropped)}
    text = f"{source.key} = {source.text}: {'; '.join(told)}"
    return kept, [Notice(text=text, event=event)]


def _too_long(long: Sequence[Prompt], count: int, limit: Limit) -> str:
    named = ", ".join(f"{short(p.prompt_id)} with {len(p.token_ids)}" for p in long[:SHOWN])
    more = ", ..." if len(long) > SHOWN else ""
    return (
        f"{len(long)} of {count} prompts have more than {limit.tokens} tokens ({limit.why}): "
        f"{named}{more}"
    )


async def problem_prompts(
    environment: Environment, tokenizer: ChatTokenizer, source: str
) -> list[Prompt]:
    """The prompts of `env:train` or `env:test`, one per problem of the environment."""
    check_source(source, True)
    split = source.removeprefix("env:")
    prompts, context = [], environment.limits.context_tokens
    for seed in range(ENV_SIZES[split]):
        messages = tuple(await environment.make(split).reset(seed))
        token_ids = tuple(tokenizer.open(messages))
        prompts.append(
            Prompt(
                prompt_id=f"{split}-{seed:05d}",
                token_ids=token_ids,
                source=source,
                messages=messages,
                extras={"split": split, "problem_seed": seed},
            )
        )
    long = [p for p in prompts if context is not None and len(p.token_ids) >= context]
    if long:
        named = ", ".join(f"{p.prompt_id} with {len(p.token_ids)}" for p in long[:SHOWN])
        raise InputError(
            f"rollout.environment: the first prompt of {len(long)} of {len(prompts)} problems of "
            f"{source} fills the context, which holds {context} tokens with the completion: "
            f"{named}; use shorter problems or a model.path with a longer context"
        )
    return prompts


def render(
    rows: Sequence[ProblemRow], tokenizer: Any, config: DataConfig, *, name: str = ""
) -> list[Prompt]:
    """The prompts as token ids.

    name: of the source among several; it is then the `source` of its prompts and the first part of
    their ids, and what the row itself names as its source is the extra column `source_in_file`.
    """
    prompts = []
    for row in rows:
        messages = messages_of(row, config.system_prompt)
        columns = row_columns(row, name)
        prompts.append(
            Prompt(
                prompt_id=f"{name}/{row.id}" if name else row.id,
                token_ids=prompt_tokens(tokenizer, messages, row),
                answer=row.answer,
                source=columns.pop("source"),
                level=columns.pop("level"),
                messages=tuple(messages),
                extras=columns,
            )
        )
    return prompts


def check_tokens(prompts: Sequence[Prompt], model_config: Any) -> None:
    """Refuse a prompt with a token that the model has no embedding for."""
    rows = model_config.get_text_config().vocab_size
    for prompt in prompts:
        if max(prompt.token_ids) >= rows:
            raise InputError(
                f"prompt {prompt.prompt_id!r} of {prompt.source}: has token "
                f"{max(prompt.token_ids)}, but the model embeds {rows}; the tokenizer in "
                "model.path does not match its weights"
            )


def prompt_limit(
    model_config: Any, rollout: RolloutConfig, max_prompt_tokens: int | None
) -> Limit | None:
    """The most tokens of a prompt; None if neither the config, the model nor the engines state one.

    Raises InputError if the context leaves less than max_prompt_tokens, or nothing at all.
    """
    engines = rollout.engine_options.get("max_model_len")
    stated = [context_length(model_config), engines if isinstance(engines, int) else None]
    context = min((n for n in stated if n is not None and n > 0), default=None)
    own = max_prompt_tokens and Limit(tokens=max_prompt_tokens, why="data.max_prompt_tokens")
    if context is None:
        return own or None
    left = context - rollout.max_tokens
    if left <= 0:
        raise InputError(
            f"rollout.max_tokens = {rollout.max_tokens}: the model's context is {context} tokens, "
            "and the prompt needs some of them"
        )
    if own and own.tokens > left:
        raise InputError(
            f"data.max_prompt_tokens = {own.tokens}: the model's context of {context} tokens "
            f"leaves {left} in addition to rollout.max_tokens = {rollout.max_tokens}"
        )
    why = f"the model's context of {context} less rollout.max_tokens = {rollout.max_tokens}"
    return own or Limit(tokens=left, why=why)
