"""What a chat template may do to every prompt without an error: leave out a message, or never open
the assistant's turn."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlnorm.errors import InputError, one_line
from rlnorm.rewards.data.problems import short
from rlnorm.trainers.prompts import Notice
from rlnorm.types import Prompt


def template_notices(prompts: Sequence[Prompt], tokenizer: Any) -> list[Notice]:
    """Notices of what the tokenizer's chat template leaves out of these prompts.

    Raises InputError where that is the user's message.
    """
    model = f"model.path: the chat template of {tokenizer.name_or_path!r}"
    if tokenizer.chat_template is None:
        return _end_token_notice(prompts[0], tokenizer)
    found = _open_turn_notice(prompts[0], tokenizer, model)
    first = {frozenset(m["role"] for m in p.messages): p for p in reversed(prompts)}
    for prompt in first.values():
        roles = [m["role"] for m in prompt.messages]
        lost = _lost_messages(prompt.messages, tokenizer)
        if len(roles) - 1 in lost:
            raise InputError(
                f"{model} leaves out the last of the messages {', '.join(roles)}: prompts would "
                "not hold the question; correct chat_template in its tokenizer_config.json"
            )
        if lost:
            named = " and ".join(f"a message of {roles[index]}" for index in lost)
            text = f"{model} leaves out {named}, such as in prompt {short(prompt.prompt_id)!r}"
            event = {"event": "messages_left_out", "prompt": prompt.prompt_id, "left_out": lost}
            found.append(Notice(text=text, event=event))
    return found


def _lost_messages(messages: Sequence[Mapping[str, Any]], tokenizer: Any) -> list[int]:
    """Of the last message and the first of each role, the positions of those whose content does not
    change what is rendered."""
    roles = [m["role"] for m in messages]
    before, lost = _rendered(tokenizer, messages, add_generation_prompt=True), []
    for index in sorted({*map(roles.index, roles), len(roles) - 1}):
        changed = [dict(message) for message in messages]
        changed[index]["content"] += " and more"
        try:
            if _rendered(tokenizer, changed, add_generation_prompt=True) == before:
                lost.append(index)
        except InputError:  # so the template reads this content
            continue
    return lost


def _open_turn_notice(prompt: Prompt, tokenizer: Any, model: str) -> list[Notice]:
    with_it, without = (
        _rendered(tokenizer, prompt.messages, add_generation_prompt=asked)
        for asked in (True, False)
    )
    if with_it != without:
        return []
    end = with_it[-40:]
    text = (
        f"{model} ignores add_generation_prompt: prompts end with {end!r}, where the completion "
        "starts; unless that opens the assistant's turn, correct chat_template in its "
        "tokenizer_config.json"
    )
    event = {"event": "no_generation_prompt", "model": tokenizer.name_or_path, "ends_with": end}
    return [Notice(text=text, event=event)]


def _end_token_notice(prompt: Prompt, tokenizer: Any) -> list[Notice]:
    if prompt.token_ids[-1] != tokenizer.eos_token_id:
        return []
    model, end = tokenizer.name_or_path, tokenizer.eos_token
    text = (
        f"model.path: the tokenizer of {model!r} ends every prompt with its end token {end!r}, "
        "after which a model expects another text; set add_eos_token: false in its "
        "tokenizer_config.json"
    )
    return [Notice(text=text, event={"event": "prompts_end", "model": model, "ends_with": end})]


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, Any]], **options: bool) -> str:
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, **options))
    except Exception as error:  # a template is a program, which may raise anything
        roles = ", ".join(message["role"] for message in messages)
        raise InputError(
            f"model.path: the chat template of {tokenizer.name_or_path!r} fails on messages of "
            f"{roles}: {one_line(error)}"
        ) from error
