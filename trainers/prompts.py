"""Rows of a data source to rendered prompts, in a seeded order that a checkpoint can continue."""

from collections.abc import Sequence
from typing import Any

from rewards.datasets import ProblemRow, load_problems

from rewards.errors import InputError
from rlnorm.types import Prompt
from trainers.config import DataConfig
from trainers.seeds import shuffled
from trainers.tasks import TASKS, generate_split

TASK_SIZES = {"train": 8192, "heldout": 512, "hard": 512}
"""How many problems a `task:` source draws of each split."""


def load_rows(source: str, fields: dict[str, str]) -> list[ProblemRow]:
    """The rows of `task:NAME[:SPLIT]`, or of any source rewards.datasets knows."""
    if not source.startswith("task:"):
        return load_problems(source, fields=fields)
    _, name, *rest = source.split(":")
    split = rest[0] if rest else "train"
    if name not in TASKS:
        raise InputError(f"data source {source!r}: choose a task from {', '.join(sorted(TASKS))}")
    if split not in TASK_SIZES:
        raise InputError(f"data source {source!r}: choose a split from {', '.join(TASK_SIZES)}")
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


def render(
    rows: Sequence[ProblemRow], tokenizer: Any, config: DataConfig, *, longest: int | None
) -> list[Prompt]:
    """Prompts as the policy sees them; longest: most tokens a prompt may have."""
    system = [] if config.system_prompt is None else [config.system_prompt]
    prompts = []
    for row in rows:
        messages = [{"role": "system", "content": text} for text in system]
        messages.append({"role": "user", "content": row.question})
        token_ids = _token_ids(tokenizer, messages)
        if longest is not None and len(token_ids) > longest:
            raise InputError(
                f"prompt {row.id!r} of {row.source}: {len(token_ids)} tokens, but the model's "
                f"context leaves {longest} beside rollout.max_tokens"
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


def _token_ids(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[int, ...]:
    if tokenizer.chat_template is None:
        return tuple(tokenizer("\n".join(m["content"] for m in messages)).input_ids)
    encoded = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    return tuple(encoded["input_ids"])


def context_left(model_config: Any, max_tokens: int) -> int | None:
    """How long a prompt may be, or None where the model states no context length."""
    context = getattr(model_config, "max_position_embeddings", None)
    if context is None:
        return None
    if context <= max_tokens:
        raise InputError(
            f"rollout.max_tokens = {max_tokens}: the model's context is {context} tokens, "
            "and a prompt needs some of them"
        )
    return int(context - max_tokens)


class PromptStream:
    """The training prompts, shuffled anew each epoch; `cursor` is all the state there is."""

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
