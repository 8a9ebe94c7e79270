"""A chat template that leaves out a message or never opens the assistant's turn is named."""

import pytest

from rlnorm.errors import InputError
from rlnorm.trainers.models import load_tokenizer
from rlnorm.trainers.template_checks import template_notices
from rlnorm.types import Prompt

LOOP = "{% for m in messages %}{ROW}{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
USER = {"role": "user", "content": "7"}
SYSTEM = {"role": "system", "content": "be brief"}
REPLY = {"role": "assistant", "content": "8"}


def notices(template, *conversations):
    tokenizer = load_tokenizer("shipped:quick")
    tokenizer.chat_template = template
    prompts = [
        Prompt(prompt_id=f"p{index}", token_ids=(1,), messages=tuple(messages))
        for index, messages in enumerate(conversations)
    ]
    return template_notices(prompts, tokenizer)


def loop(row):
    return LOOP.replace("{ROW}", row)


def test_a_sound_template_is_silent():
    tokenizer = load_tokenizer("shipped:quick")
    own = tokenizer.chat_template
    assert notices(own, [USER], [SYSTEM, USER], [USER, REPLY, USER]) == []
    # contents may be trimmed or escaped
    trimmed = loop("<|{{ m.role }}|>{{ m.content | trim | tojson }}") + OPEN
    assert notices(trimmed, [SYSTEM, {"role": "user", "content": ' say "a" '}]) == []


def test_a_template_that_ignores_the_generation_prompt_is_named_once():
    [notice] = notices(loop("<|user|>{{ m.content }}<|end|>"), [USER], [USER, REPLY, USER])
    assert "the chat template of '" in notice.text
    told = "quick' ignores add_generation_prompt: prompts end with '<|user|>7<|end|>', where"
    assert told in notice.text
    assert notice.event["event"] == "no_generation_prompt"


@pytest.mark.parametrize(
    ("template", "conversation", "left_out", "named"),
    [
        (loop("{% if m.role != 'system' %}{{ m.content }}{% endif %}"), [SYSTEM, USER], [0],
         "a message of system"),
        (loop("{% if m.role == 'user' %}{{ m.content }}{% endif %}"), [USER, REPLY, USER], [1],
         "a message of assistant"),
        ("{{ messages[-1].content }}", [SYSTEM, USER, REPLY, USER], [0, 1, 2],
         "a message of system and a message of user and a message of assistant"),
    ],
)  # fmt: skip
def test_a_message_that_a_template_leaves_out_is_named(template, conversation, left_out, named):
    [notice] = notices(template + OPEN, [USER], conversation)
    assert notice.event == {"event": "messages_left_out", "prompt": "p1", "left_out": left_out}
    assert f"leaves out {named}, such as in prompt 'p1'" in notice.text


@pytest.mark.parametrize(
    ("template", "conversation"),
    [
        ("<|user|>answer!" + OPEN, [USER]),
        ("{{ messages[0].content }}" + OPEN, [SYSTEM, USER]),
        (loop("{% if m.role == 'system' %}{{ m.content }}{% endif %}") + OPEN, [SYSTEM, USER]),
    ],
)
def test_a_template_that_leaves_out_the_question_is_refused(template, conversation):
    with pytest.raises(InputError, match=r"leaves out the last of the messages (system, )?user: p"):
        notices(template, conversation)


def test_a_tokenizer_that_ends_every_prompt_is_named():
    tokenizer = load_tokenizer("shipped:quick")
    tokenizer.chat_template = None
    end = tokenizer.eos_token_id
    [notice] = template_notices([Prompt(prompt_id="a", token_ids=(76, end))], tokenizer)
    assert "ends every prompt with its end token '<|end|>'" in notice.text
    assert template_notices([Prompt(prompt_id="a", token_ids=(end, 76))], tokenizer) == []
