"""What rewards see of sampled tokens, and whether a prompt ends inside a reasoning tag."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlnorm.rewards import Sample
from rlnorm.rewards.code import extract_code
from rlnorm.rewards.decoding import open_tag, visible_text
from rlnorm.rewards.environments.chain import read_value
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.rewards.format import boxed_format
from rlnorm.rewards.match import Regex, boxed_exact, exact
from rlnorm.rewards.math.reward import choice
from rlnorm.rewards.math.verify import verify
from rlnorm.rewards.schema import JsonSchema
from rlnorm.rewards.text import after_reasoning, open_reasoning
from rlnorm.rewards.tool_calls import ToolCallReward

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\nOPENING{% endif %}"
)
ANSWER = "let me see, \\boxed{4}? no, wait"
"""Case two-069: right where the policy answers at once, reasoning where the prompt opened a tag."""


def tokenizer(opening="", special=(), template=CHATML):
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *special]
    vocabulary = {t: i for i, t in enumerate([*marks, *pre_tokenizers.ByteLevel.alphabet()])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    made.chat_template = template and template.replace("OPENING", opening)
    return made


def test_end_pad_and_turn_tokens_go_and_every_other_special_token_stays():
    special = ["<think>", "</think>", "<answer>", "</answer>", "<tool>"]
    made = tokenizer("<think>\n", special)
    text = "<think>a</think><tool>b<answer>4</answer>"
    ids = made.encode(f"<|im_start|>{text}<|im_end|><|endoftext|>")
    assert made.decode(ids, skip_special_tokens=True) == "ab4"
    assert visible_text(made, ids) == text
    assert ChatTokenizer(made).decode(ids) == text


@pytest.mark.parametrize("mark", ["<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "</s>", "<|user|>"])
def test_a_marker_of_turns_goes_also_without_a_template(mark):
    made = tokenizer(special=[mark], template=None)
    assert visible_text(made, made.encode(f"a{mark}b")) == "ab"


@pytest.mark.parametrize(
    ("opening", "tag"),
    [
        ("", ""),
        ("<think>\n", "<think>"),
        ("<thinking>", "<thinking>"),
        ("<reasoning>\nFirst, ", "<reasoning>"),
        ("<|begin_of_thought|>\n\n", "<|begin_of_thought|>"),
        ("[THINK]", "[THINK]"),
        ("<seed:think>", "<seed:think>"),
        ("<think>\n\n</think>\n\n", ""),
        ("<answer>", ""),
    ],
)
def test_the_tag_that_a_template_leaves_open(opening, tag):
    made = tokenizer(opening)
    question = "Write your thoughts after <think>"
    messages = [{"role": "user", "content": question}]
    ids = made.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert open_tag(made, tuple(ids), question) == tag
    chat = ChatTokenizer(made)
    assert chat.open_tag(chat.open(messages), messages) == tag
    assert chat.open_tag(chat.extend(messages, 0), messages) == tag


@pytest.mark.parametrize("question", ["k", "think", "What is <think>", "<|im_end|>"])
def test_a_question_that_is_a_part_of_the_tag_hides_no_tag(question):
    for opening, tag in (("<think>\n", "<think>"), ("", "")):
        made = tokenizer(opening)
        asked = [{"role": "user", "content": question}]
        ids = made.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
        assert open_tag(made, tuple(ids), question) == tag


@pytest.mark.parametrize(
    ("prompt", "tag"),
    [
        ("Think in <think> tags. What is 2 + 2?", ""),
        ("What is 2 + 2? Put your thoughts between <think> and </think>.\n<think>", "<think>"),
        ("User: 2 + 2?\nAssistant: <think> Let me see.", "<think>"),
    ],
)
def test_a_prompt_without_a_template_opens_a_tag_at_the_start_of_a_line(prompt, tag):
    made = tokenizer(template=None)
    assert open_tag(made, tuple(made.encode(prompt)), prompt) == tag


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<thinking>a</thinking>b", "b"),
        ("<REASONING>a", None),
        ("<Think>a</Think>b", "b"),
        ("<|thinking|>a<|/thinking|>b", "b"),
        ("<|begin_of_reasoning|>a<|end_of_reasoning|>b", "b"),
        ("<think_start>a<think_end>b", "b"),
        ("[REASONING]a", None),
        ("<|begin_of_thought|>a<|end_of_thought|>b", "b"),
        ("<|begin_of_thought|>a", None),
        ("[THINK]a[/THINK]b", "b"),
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>b", "b"),
        ("<answer>b</answer>", "<answer>b</answer>"),
        ("1 < 2", "1 < 2"),
    ],
)
def test_what_follows_the_reasoning(text, answer):
    assert after_reasoning(text) == answer


def test_a_tag_is_open_until_it_is_closed():
    assert open_reasoning("<think>a") == "<think>"
    assert open_reasoning("<think>a</think>") == ""


def of(completion, **fields):
    return Sample(id="1", group="g", completion=completion, gold="4", **fields)


def test_a_sample_knows_its_full_text_and_what_follows_the_reasoning():
    assert (of("a").full_text, of("a").after_reasoning) == ("a", "a")
    opened = of(ANSWER, open_tag="<think>")
    assert (opened.full_text, opened.after_reasoning) == ("<think>" + ANSWER, None)
    assert of("a</think>b", open_tag="<think>").after_reasoning == "b"
    # two turns, "a</think>b" and "c": the second prompt opened the tag again
    turns = of("a</think>bc", open_tag="<think>", open_at=len("a</think>b"))
    assert (turns.full_text, turns.after_reasoning) == ("a</think>b<think>c", None)


@pytest.mark.parametrize("tag", ["<think>", "<reasoning>", "<|begin_of_thought|>", "[THINK]"])
def test_reasoning_that_never_ends_is_no_answer_for_every_reward(tag):
    full_text = of(ANSWER, open_tag=tag).full_text
    statuses = {
        "math": verify("4", full_text).status,
        "boxed_exact": boxed_exact(full_text, "4").status,
        "exact": exact(full_text, "4", answer="box").status,
        "choice": choice(f"{tag}The answer is B", "B").status,
        "regex": Regex("4")(of(ANSWER, open_tag=tag)).status,
        "json_schema": JsonSchema({"type": "number"})(of("4", open_tag=tag)).status,
        "tool_calls": ToolCallReward()(full_text, [{"name": "f"}]).status,
    }
    assert set(map(str, statuses.values())) == {"no_answer"}, statuses
    assert boxed_format(f"{tag}so \\boxed{{4}}") == 0.0
    assert boxed_format("so \\boxed{4}") == 1.0
    assert extract_code(f"{tag}```python\nprint(4)\n```") is None
    assert read_value(full_text) is None


def test_without_an_open_tag_the_same_completion_is_graded():
    assert str(verify("4", of(ANSWER).full_text).status) == "correct"


def test_a_template_that_opens_the_tag_gives_the_calls_their_format():
    call = 'x</think>\n<tool_call>\n{"name": "add", "parameters": {"a": 1}}\n</tool_call>'
    gold = [{"name": "add", "parameters": {"a": 1}}]
    score = ToolCallReward()(of(call, open_tag="<think>").full_text, gold)
    assert score.components == {"format": 1.0, "correctness": 3.0}
