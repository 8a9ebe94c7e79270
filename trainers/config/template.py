"""What a chat template makes of a row's messages, also before torch is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlnorm.errors import InputError, one_line
from rlnorm.rewards.data.problems import ProblemRow, short

Messages = Sequence[Mapping[str, str]]


def messages_of(row: ProblemRow, system_prompt: str | None) -> Messages:
    """The row's conversation or question, after the config's system message unless it has one."""
    messages = row.messages or ({"role": "user", "content": row.question},)
    if system_prompt is None or messages[0]["role"] == "system":
        return list(messages)
    return [{"role": "system", "content": system_prompt}, *messages]


def prompt_tokens(tokenizer: Any, messages: Messages, row: ProblemRow) -> tuple[int, ...]:
    """The prompt's tokens; InputError if the chat template fails on its messages, or if there are
    none."""
    try:
        if tokenizer.chat_template is None:
            ids = tokenizer("\n".join(m["content"] for m in messages)).input_ids
        else:
            ids = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=True
            )["input_ids"]
    except Exception as error:  # a template is a program, which may raise anything
        raise InputError(
            f"prompt {short(row.id)!r} of {row.source}: the chat template of "
            f"{tokenizer.name_or_path!r} fails on its messages "
            f"({', '.join(m['role'] for m in messages)}): {one_line(error)}"
        ) from error
    if not ids:
        raise InputError(
            f"prompt {short(row.id)!r} of {row.source}: has no tokens; the chat template of "
            "model.path renders nothing for its messages"
        )
    return tuple(ids)


def fast_tokenizer(folder: str) -> Any:
    """The tokenizer without its model's own class, which would load torch; None if only that class
    can tell: there is no fast form, it is broken, or its template writes a special token that the
    files do not name."""
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception:  # whatever is wrong is named by rlnorm.trainers.models.load_tokenizer
        return None
    template = str(tokenizer.chat_template or "")
    absent = [n for n in tokenizer.SPECIAL_TOKENS_ATTRIBUTES if getattr(tokenizer, n) is None]
    return None if any(name in template for name in absent) else tokenizer
