"""Rows become prompts: what is too long is counted and named, and a broken template is one line."""

import asyncio
import json

import pytest
from rich.console import Console

from rlnorm.errors import InputError
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.resolve import build_scorer
from rlnorm.trainers.config.sources import data_sources
from rlnorm.trainers.evaluate.command import run_evaluation
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.models import load_model_config, load_tokenizer
from rlnorm.trainers.prompts import (
    Limit,
    load_prompts,
    prompt_limit,
)
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training

LENGTHS = {"a": 3, "b": 30, "c": 5, "d": 40, "e": 7}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("shipped:quick")


def write(path, lengths):
    """Rows whose question has so many digits; a digit is a token, and the template adds three."""
    asked = {k: [(i * j + i) % 10 for i in range(n)] for j, (k, n) in enumerate(lengths.items())}
    rows = [{"id": k, "question": "".join(map(str, v)), "answer": "1"} for k, v in asked.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path, tokenizer, tokens, *overrides):
    config = load_config("quickstart", [f"data.train={path}", *overrides])
    limit = Limit(tokens=tokens, why="data.max_prompt_tokens")
    source, scorer = data_sources(config.data)[0], build_scorer(config)
    return load_prompts(source, config=config.data, tokenizer=tokenizer, scorer=scorer, limit=limit)


def test_all_prompts_that_are_too_long_are_dropped_counted_and_named(tmp_path, tokenizer):
    path = write(tmp_path / "d.jsonl", LENGTHS)
    kept, [notice] = load(path, tokenizer, 10)
    assert [(p.prompt_id, len(p.token_ids)) for p in kept] == [("a", 6), ("c", 8), ("e", 10)]
    assert notice.text == (
        f"data.train = {path}: 2 of 5 prompts have more than 10 tokens (data.max_prompt_tokens): "
        "b with 33, d with 43"
    )
    assert notice.event == {
        "event": "rows_dropped",
        "key": "data.train",
        "source": str(path),
        "limit": 10,
        "too_long": {"b": 33, "d": 43},
        "read": 5,
        "kept": 3,
        "dropped": {},
    }
    assert load(path, tokenizer, 43)[1] == []


def test_prompts_that_are_too_long_end_the_run_where_the_config_says_so(tmp_path, tokenizer):
    path = write(tmp_path / "d.jsonl", LENGTHS)
    message = r"data.train = '.*d.jsonl': 2 of 5 prompts have more than 10 tokens .*: b with 33, d "
    with pytest.raises(InputError, match=message) as told:
        load(path, tokenizer, 10, "data.on_bad_row=error")
    assert str(told.value).endswith("shorten them, or set data.on_bad_row: drop")
    with pytest.raises(InputError, match=r"5 of 5 prompts have more than 5 .* e with 10; shorten"):
        load(path, tokenizer, 5)


def test_golds_that_cannot_be_read_end_the_run_where_the_config_says_so(tmp_path, tokenizer):
    path = tmp_path / "d.jsonl"
    rows = [{"id": i, "question": f"{i}?", "answer": gold} for i, gold in enumerate(["1", "a } b"])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, [notice] = load(f"math500={path}", tokenizer, 99, "data.fields={question: question}")
    assert [p.prompt_id for p in kept] == ["0"]
    assert notice.text.endswith("1 of 2 rows kept; gold_error: 1 (1)")
    assert notice.event["dropped"] == {"gold_error": ("1",)}
    message = r"data.train = 'math500=.*: 1 of 2 golds cannot be read by the rewards: 1 \("
    with pytest.raises(InputError, match=message):
        load(f"math500={path}", tokenizer, 99, "data.fields={question: question}",
             "data.on_bad_row=error")  # fmt: skip


MINE = """
class Mine:
    def check_gold(self, gold):
        if int(gold) < 0:
            raise ValueError("needs a gold from 0")

    def __call__(self, completion, gold):
        return 1.0
"""


@pytest.mark.parametrize(
    ("function", "golds", "kept", "fault"),
    [
        ("code", ["1", ["assert f(1) == 2"], [{"stdin": "1"}]], ["1"], "0 (code: tests = '1'"),
        ("tool_calls", [[{"name": 7}], "no", "[]"], ["2"], "1 (tool_calls: gold 'no': Expecting"),
        ("tool_calls", [[{"name": "f", "parameters": {}}], "{}", "1"], ["0"], "1 (tool_calls: "),
        ("math", ["5", {"a": 1}, ["5", "6"]], ["0", "2"], "1 (math: gold \"{'a': 1}\": needs a"),
        ("mine.py:Mine", ["-5", "0", "7"], ["1", "2"], "0 (mine.py:Mine: needs a gold from 0)"),
    ],
)
def test_rows_whose_gold_a_reward_cannot_read_are_dropped_and_named(
    tmp_path, tokenizer, monkeypatch, function, golds, kept, fault
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    rows = [{"id": i, "question": f"{i}?", "answer": gold} for i, gold in enumerate(golds)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reward = f"rewards={json.dumps([{'name': function, 'function': function}])}"
    found, [notice] = load("d.jsonl", tokenizer, 99, reward)
    assert [p.prompt_id for p in found] == kept
    assert f"{len(kept)} of 3 rows kept; gold_error: {3 - len(kept)} (" in notice.text
    with pytest.raises(InputError) as told:
        load("d.jsonl", tokenizer, 99, reward, "data.on_bad_row=error")
    assert fault in str(told.value)
    assert "\n" not in str(told.value)


def test_a_check_of_golds_that_itself_fails_is_told_with_its_place(
    tmp_path, tokenizer, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "d.jsonl").write_text('{"question": "1?", "answer": ["1"]}\n')
    message = r"rewards.m.check_gold\(\['1'\]\): TypeError: int\(\) .*mine.py, line 4\)"
    with pytest.raises(InputError, match=message):
        load("d.jsonl", tokenizer, 99, "rewards=[{name: m, function: 'mine.py:Mine'}]")


def test_the_limit_is_the_configs_own_or_what_the_context_leaves():
    model = load_model_config("shipped:quick")
    rollout = load_config("quickstart").rollout
    assert prompt_limit(model, rollout, None).tokens == 1024 - 64
    assert prompt_limit(model, rollout, 960) == Limit(tokens=960, why="data.max_prompt_tokens")
    with pytest.raises(InputError, match=r"data.max_prompt_tokens = 961: .* of 1024 tokens leaves"):
        prompt_limit(model, rollout, 961)
    full = load_config("quickstart", ["rollout.max_tokens=1024"]).rollout
    with pytest.raises(InputError, match=r"rollout.max_tokens = 1024: the model's context is 1024"):
        prompt_limit(model, full, None)


def test_the_engines_own_limit_of_the_context_counts():
    model, vllm = load_model_config("shipped:quick"), "rollout.backend=vllm"
    short = load_config("quickstart", [vllm, "rollout.engine_options.max_model_len=100"])
    assert prompt_limit(model, short.rollout, None).tokens == 100 - 64


TEMPLATES = {
    "type": ("{{ 1 + messages[0].content }}", r"TypeError: unsupported operand"),
    "undefined": ("{{ messages[0].name.first }}", r"UndefinedError: "),
    "key": ("{{ messages[0]['content'][99].x.y }}", r"UndefinedError: "),
    "zero": ("{{ 1 / (messages | length - 1) }}", r"ZeroDivisionError: division by zero"),
    "value": ("{{ '%d' % messages[0].content }}", r"TypeError: "),
    "index": ("{{ messages[0].content.index('~') }}", r"ValueError: substring not found"),
    "raised": ("{{ raise_exception('only\\nsystem') }}", r"TemplateError: only system"),
    "syntax": ("{% for m in messages %}", r"TemplateSyntaxError: "),
    "filter": ("{{ messages | nope }}", r"TemplateAssertionError: "),
    "recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", r"RecursionError: "),
    "unsafe": ("{{ messages.__class__.__mro__[1] }}", r"SecurityError: "),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_whatever_a_template_raises_is_one_line_with_row_and_model(tmp_path, name):
    template, cause = TEMPLATES[name]
    own = load_tokenizer("shipped:quick")
    own.chat_template = template
    message = rf"prompt 'a' of .*d.jsonl: the chat template of '.*quick' fails .*\(user\): {cause}"
    with pytest.raises(InputError, match=message) as told:
        load(write(tmp_path / "d.jsonl", LENGTHS), own, 99)
    assert "\n" not in str(told.value)


def test_what_is_dropped_is_on_the_terminal_and_in_the_events(tmp_path):
    train = write(tmp_path / "train.jsonl", LENGTHS)
    held = write(tmp_path / "held.jsonl", {"x": 4, "y": 50})
    overrides = [f"data.train={train}", f"data.eval={{held: {held}}}", "data.max_prompt_tokens=11"]
    overrides += [f"output_dir={tmp_path}", "run_name=r", "steps=1", "eval_samples=1"]
    overrides += ["rollout.prompts_per_step=2", "rollout.group_size=2", "rollout.max_tokens=4"]
    config = load_config("quickstart", overrides)
    terminal = Console(record=True, width=400, file=(tmp_path / "terminal.txt").open("w"))
    asyncio.run(run_training(config, Display(1, terminal)))
    asyncio.run(run_evaluation(config, None, None, terminal))
    terminal.file.close()
    lines = (tmp_path / "terminal.txt").read_text().splitlines()
    told = [line for line in lines if "have more than 11 tokens" in line]
    assert len(told) == 4
    assert told[:2] == told[2:]
    assert told[0].startswith(f"data.train = {train}: 2 of 5 prompts")
    assert told[1].startswith(f"data.eval.held = {held}: 1 of 2 prompts")
    assert told[1].endswith("y with 53; the benchmark is measured on the 1 rows that are left")
    events = read_jsonl(tmp_path / "r" / "events.jsonl")
    events = [event for event in events if event["event"] == "rows_dropped"]
    assert [(e["key"], e["too_long"]) for e in events] == [
        ("data.train", {"b": 33, "d": 43}),
        ("data.eval.held", {"y": 53}),
    ]
