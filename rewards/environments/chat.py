"""Chat templates by pieces, so that a conversation grows token by token and nothing is redone.

Rendering a whole conversation again for every turn is what breaks token-exactness: decoded text
need not encode to the tokens that were sampled, and some templates drop earlier reasoning. Here a
template is rendered around placeholders, cut at them, and only new pieces are encoded. Contents
are encoded as plain text: a tool that prints `<|im_end|>` cannot end a turn.
"""

from collections.abc import Sequence
from typing import Any

from rewards.environments.types import Message

_PLACEHOLDER = "@@CONTENT{}@@"
_ASSISTANT = "@@ASSISTANT@@"


class ChatTokenizer:
    """TurnTokenizer over a Hugging Face tokenizer that has a chat template."""

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(f"tokenizer {getattr(tokenizer, 'name_or_path', '')!r}: needs a chat "
                             "template")  # fmt: skip
        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)

    def open(self, messages: Sequence[Message]) -> list[int]:
        """The rendered messages and the opening of the assistant's turn."""
        return self._encode(self._render([], messages), messages)

    def extend(self, messages: Sequence[Message], last_id: int) -> list[int]:
        """The rest of the ended turn's wrapper, the messages, the opening of the next turn.

        The template's end token is left out where last_id already is that token.
        """
        before = [{"role": "user", "content": "."}, {"role": "assistant", "content": _ASSISTANT}]
        _, found, rest = self._render(before, messages).rpartition(_ASSISTANT)
        if not found:
            raise ValueError("chat template: does not show the content of an assistant message")
        ids = self._encode(rest, messages)
        return ids[1:] if ids and ids[0] == last_id else ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def _render(self, before: Sequence[Message], messages: Sequence[Message]) -> str:
        marked = [
            {"role": message["role"], "content": _PLACEHOLDER.format(index)}
            for index, message in enumerate(messages)
        ]
        return str(
            self._tokenizer.apply_chat_template(
                [*before, *marked], tokenize=False, add_generation_prompt=True
            )
        )

    def _encode(self, rendered: str, messages: Sequence[Message]) -> list[int]:
        ids: list[int] = []
        for index, message in enumerate(messages):
            wrapper, found, rendered = rendered.partition(_PLACEHOLDER.format(index))
            if not found:
                raise ValueError(
                    f"chat template: does not show a message of role {message['role']!r}"
                )
            ids += self._ids(wrapper)
            ids += self._ids(message["content"], split_special_tokens=True)
        return ids + self._ids(rendered)

    def _ids(self, text: str, **options: Any) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False, **options)
        if options and self._special.intersection(ids):
            raise ValueError("tokenizer: encodes text as special tokens despite being told not to")
        return list(ids)
