"""Sampled tokens as the text that rewards read, and the reasoning tag that a prompt leaves open."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from rlnorm.rewards.text import REASONING_TAG, open_reasoning

_TURN = re.compile(
    r"</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<\|(?:im_(?:start|end|sep)|eo[tm]_id|start|end"
    r"|endoftext|(?:begin|end)_of_(?:text|turn)|(?:start|end)_header_id|return|call|system|user"
    r"|assistant)\|>"
)
"""Tokens that begin or end a turn in the common chat formats."""
_CHANNEL = re.compile(r"<\|(?:channel|message|constrain)\|>")
"""Tokens inside a turn that separate reasoning from the answer (gpt-oss)."""


def visible_text(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """The decoded text without end, pad and turn tokens. Any other special token stays, so that a
    reward sees `<think>` or an answer tag that the tokenizer calls special."""
    hidden = _hidden(tokenizer)
    kept = [token for token in token_ids if token not in hidden]
    return str(tokenizer.decode(kept, skip_special_tokens=False))


@lru_cache(maxsize=1024)
def open_tag(tokenizer: Any, prompt_ids: tuple[int, ...], last: str) -> str:
    """The reasoning tag inside which a rendered prompt ends, such as `<think>`; "" if none.

    last: the content of its last message. What the chat template adds after it is the opening of
    the assistant's turn; a prompt without a template is its content alone.
    """
    text = str(tokenizer.decode(list(prompt_ids), skip_special_tokens=False))
    opening = _after(text, last.strip() or "\0")
    if opening.strip():
        return open_reasoning(opening)
    # a question may speak of a tag: an opened one stands at the start of a line or after a colon
    return open_reasoning(text, at_start=True)


def _after(text: str, content: str) -> str:
    """What follows the last place of the content, but not as a part of a tag: a question may be a
    single letter."""
    tags = [tag.span() for tag in REASONING_TAG.finditer(text)]
    at = text.rfind(content)
    while any(
        start <= at and at + len(content) <= end and end - start > len(content)
        for start, end in tags
    ):
        at = text.rfind(content, 0, at + len(content) - 1)
    return text[at + len(content) :] if at >= 0 else ""


@lru_cache(maxsize=8)
def _hidden(tokenizer: Any) -> frozenset[int]:
    """Ids of the end, pad and begin tokens and of those that mark turns."""
    named = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id} - {None}
    special = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    wrapper = _wrapper(tokenizer)
    turns = {
        i
        for i, text in special.items()
        if _TURN.fullmatch(text)
        or (text in wrapper and not REASONING_TAG.fullmatch(text) and not _CHANNEL.fullmatch(text))
    }
    return frozenset(named | turns)


def _wrapper(tokenizer: Any) -> str:
    """What the chat template writes around messages; "" without a template or if it refuses."""
    if not getattr(tokenizer, "chat_template", None):
        return ""
    said = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    try:
        return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
    except TemplateError:  # it refuses these roles; the common markers are known by name
        return ""
