"""Chat templates applied piece by piece: sampled tokens are kept, only new messages are encoded.

Rendering the full conversation again for every turn breaks token-exactness: decoded text need not
encode to the tokens that were sampled, and some templates drop earlier reasoning. Here a template
is rendered around placeholders, cut at them, and only new pieces are encoded. Contents are encoded
as plain text: a tool that prints `<|im_end|>` cannot end a turn.
"""

from collections.abc import Sequence
from typing import Any

from rlnorm.errors import InputError, one_line
from rlnorm.rewards.decoding import open_tag, visible_text
from rlnorm.rewards.environments.types import Message

_PLACEHOLDER = "@@CONTENT{}@@"
_ASSISTANT = "@@ASSISTANT@@"


class ChatTokenizer:
    """TurnTokenizer over a Hugging Face tokenizer that has a chat template."""

    def __init__(self, tokenizer: Any) -> None:
        path = getattr(tokenizer, "name_or_path", "")
        self._where = f"model.path: the chat template of {path!r}"
        if not getattr(tokenizer, "chat_template", None):
            raise InputError(
                f"model.path: the tokenizer of {path!r} has no chat template, which "
                "rollout.environment needs; set chat_template in its tokenizer_config.json"
            )
        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)

    def open(self, messages: Sequence[Message]) -> list[int]:
        """The rendered messages and the opening of the assistant's turn."""
        return self._encode(self._render([], messages), messages)

    def extend(self, messages: Sequence[Message], last_id: int) -> list[int]:
        """The rest of the ended turn's wrapper, the messages and the opening of the next turn.

        The template's end token is left out where last_id already is that token.
        """
        before = [{"role": "user", "content": "."}, {"role": "assistant", "content": _ASSISTANT}]
        _, found, rest = self._render(before, messages).rpartition(_ASSISTANT)
        if not found:
            raise InputError(f"{self._where} does not render an assistant's message")
        ids = self._encode(rest, messages)
        return ids[1:] if ids and ids[0] == last_id else ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text without end, pad and turn tokens."""
        return visible_text(self._tokenizer, token_ids)

    def open_tag(self, prompt_ids: Sequence[int], messages: Sequence[Message]) -> str:
        """The reasoning tag that these tokens, which end in these messages, leave open."""
        return open_tag(self._tokenizer, tuple(prompt_ids), messages[-1]["content"])

    def _render(self, before: Sequence[Message], messages: Sequence[Message]) -> str:
        marked = [
            {"role": message["role"], "content": _PLACEHOLDER.format(index)}
            for index, message in enumerate(messages)
        ]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [*before, *marked], tokenize=False, add_generation_prompt=True
                )
            )
        except Exception as error:  # a template is a program; some refuse two users in a row
            roles = ", ".join(message["role"] for message in (*before, *marked))
            told = f"{self._where} fails on messages of {roles}: {one_line(error)}"
            raise InputError(told) from error

    def _encode(self, rendered: str, messages: Sequence[Message]) -> list[int]:
        ids: list[int] = []
        for index, message in enumerate(messages):
            wrapper, found, rendered = rendered.partition(_PLACEHOLDER.format(index))
            if not found:
                raise InputError(
                    f"{self._where} does not render a message of role {message['role']!r}"
                )
            ids += self._ids(wrapper)
            ids += self._ids(message["content"], split_special_tokens=True)
        return ids + self._ids(rendered)

    def _ids(self, text: str, **options: Any) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False, **options)
        if options and self._special.intersection(ids):
            raise InputError(
                f"{self._where} cannot be used: its tokenizer encodes text as special tokens "
                "even when asked not to"
            )
        return list(ids)
