"""Data whose golds are tests, calls, several answers or none: trained on, shown, evaluated."""

import asyncio
import json

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from rlnorm.errors import InputError
from rlnorm.rewards.data.problems import load_problems
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.models import load_tokenizer
from rlnorm.trainers.prompts import render
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training

SMALL = (
    "steps=2",
    "eval_samples=2",
    "rollout.prompts_per_step=4",
    "rollout.group_size=2",
    "rollout.max_tokens=16",
)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(folder, rows, reward, *overrides):
    """The run directory of two steps on all rows but the last, which is the benchmark."""
    rewards = json.dumps(
        [{"name": "mine", **reward}, {"name": "boxed", "function": "boxed_format"}]
    )
    config = load_config(
        "quickstart",
        [
            *SMALL,
            f"data.train={write(folder / 'train.jsonl', rows[:-1])}",
            f"data.eval={json.dumps({'held': str(write(folder / 'test.jsonl', rows[-1:]))})}",
            f"rewards={rewards}",
            f"output_dir={folder}",
            "run_name=run",
            *overrides,
        ],
    )
    console = Console(record=True, width=200, file=(folder / "console.txt").open("w"))
    try:
        asyncio.run(run_training(config, Display(2, console)))
    finally:
        console.file.close()
    return folder / "run"


def rollouts(run):
    rows = pq.read_table(run / "rollouts" / "step_000002.parquet").to_pylist()
    assert len(rows) == 8
    return rows


def statuses(run, component):
    return {row[f"status/{component}"] for row in rollouts(run)}


def test_a_file_of_code_tests_trains(tmp_path):
    golds = [
        [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "4 5\n", "stdout": "9\n"}],
        ["assert add(1, 2) == 3", "assert add([1], [2]) == [1, 2]"],
        [{"function": "add", "args": [1, 2], "expected": 3}],
        {"inputs": ["1 2"], "outputs": ["3"]},
        json.dumps([{"stdin": "1 2\n", "stdout": "}"}]),
        [{"stdin": "7 8\n", "stdout": "15\n"}],
    ]
    rows = [{"id": f"p{i}", "question": f"{i}+{i}", "answer": g} for i, g in enumerate(golds)]
    run = train(tmp_path, rows, {"function": "code", "options": {"timeout_s": 5, "cpu_s": 1}})
    assert statuses(run, "mine") <= {"correct", "wrong", "no_answer"}
    metrics = read_jsonl(run / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [0, 1, 2]
    for row in metrics[1:]:
        assert row["reward/mine/gold_error_frac"] == 0.0
        assert row["reward/mine/valid_frac"] == 1.0
    by_id = {r["prompt_id"]: r["answer"] for r in rollouts(run)}
    for name, answer in by_id.items():
        gold = golds[int(name[1:])]
        assert answer == (gold if isinstance(gold, str) else json.dumps(gold))
    [problem] = read_jsonl(run / "eval" / "step_000002" / "held.jsonl")
    assert problem["answer"] == golds[-1]
    assert problem["greedy"] == 0.0
    report = (run / "report.html").read_text()
    assert "&quot;stdin&quot;" in report or "assert add" in report
    assert "stdin" in (tmp_path / "console.txt").read_text()


def test_rows_of_tool_calls_train(tmp_path):
    system = {"role": "system", "content": "tools: weather"}
    rows = [
        {
            "messages": [system, {"role": "user", "content": f"Ulm in {i} days?"}],
            "answer": [{"name": "weather", "parameters": {"city": "Ulm", "days": i}}],
        }
        for i in range(5)
    ]
    rows[3]["answer"] = {"calls": [], "response": True}
    run = train(tmp_path, rows, {"function": "tool_calls"}, "data.system_prompt=not this one")
    assert statuses(run, "correctness") <= {"correct", "wrong", "no_answer", "unparsable"}
    for row in read_jsonl(run / "metrics.jsonl")[1:]:
        assert row["reward/correctness/gold_error_frac"] == 0.0
    first = load_problems(tmp_path / "train.jsonl")[0][0]
    config = load_config("quickstart", ["data.system_prompt=not this one"]).data
    tokenizer = load_tokenizer("shipped:quick")
    [prompt] = render([first], tokenizer, config)
    assert list(prompt.messages) == rows[0]["messages"]
    assert tokenizer.decode(prompt.token_ids).startswith("<|system|>tools: weather<|end|><|user|>")


def test_rows_without_golds_train_on_rewards_that_need_none(tmp_path):
    rows = [{"question": f"{i}+1 ?"} for i in range(6)]
    reward = {"function": "regex", "options": {"pattern": "[0-9]"}}
    with pytest.raises(InputError, match=r"no field answer .* set fields\.answer"):
        train(tmp_path, rows, reward)
    run = train(tmp_path, rows, reward, "data.fields={answer: ''}")
    assert statuses(run, "mine") <= {"correct", "wrong"}
    assert {row["answer"] for row in rollouts(run)} == {""}
    [problem] = read_jsonl(run / "eval" / "step_000002" / "held.jsonl")
    assert problem["answer"] is None


def test_any_of_several_golds_is_exact(tmp_path):
    rows = [{"question": f"{i}+1 ?", "answer": ["one", str(i + 1)]} for i in range(5)]
    run = train(tmp_path, rows, {"function": "boxed_exact"})
    assert statuses(run, "mine") <= {"correct", "wrong", "no_answer"}


def test_prompts_carry_the_golds_of_the_file(tmp_path):
    golds = [["a", "b"], {"calls": []}, "7"]
    rows = [{"question": f"{i} ?", "answer": gold} for i, gold in enumerate(golds)]
    rows, _ = load_problems(write(tmp_path / "d.jsonl", rows))
    prompts = render(rows, load_tokenizer("shipped:quick"), load_config("quickstart").data)
    assert [p.answer for p in prompts] == golds
