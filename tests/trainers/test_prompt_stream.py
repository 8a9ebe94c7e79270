"""Prompts of several sources come in their shares, in a seeded order that resumes exactly."""

import asyncio
import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from rlnorm.errors import InputError
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.resolve import build_scorer
from rlnorm.trainers.config.sources import data_sources
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.models import load_tokenizer
from rlnorm.trainers.prepare import load_all_prompts
from rlnorm.trainers.prompt_stream import (
    PromptStream,
    next_source,
    source_metrics,
    whole_weights,
)
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.run import run_training
from rlnorm.types import Completion, FinishReason, Prompt, Rollout, ScoredRollouts


def prompts(**counts):
    return [
        Prompt(prompt_id=f"{name}/{i}", token_ids=(1,), source=name)
        for name, count in counts.items()
        for i in range(count)
    ]


def ids(drawn):
    return [prompt.prompt_id for prompt in drawn]


def test_each_source_has_an_order_of_its_own():
    stream = PromptStream(prompts(a=20, b=20), seed=1, shares={"a": 1.0, "b": 1.0})
    drawn = [name.partition("/") for name in ids(stream.draw(40))]
    orders = [[index for name, _, index in drawn if name == source] for source in "ab"]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_shares_become_the_smallest_integers_as_they_are_written():
    assert whole_weights([0.7, 0.2, 0.1]) == [7, 2, 1]
    assert whole_weights([1.0, 1.0]) == [1, 1]
    assert whole_weights([2.0, 0.5]) == [4, 1]
    assert whole_weights([1e-3, 1.0]) == [1, 1000]


def test_the_order_of_three_sources_can_be_worked_out_by_hand():
    # draw 1: deficits .5 .3 .2, of which those from 1/4 on may be drawn; the first reaches its
    # bound of 3/4 in (.75 - .5) / .5 = .5 draws, the second in (.75 - .3) / .3 = 1.5
    drawn, order = [0, 0, 0], []
    for _ in range(10):
        order.append(next_source([5, 3, 2], drawn))
        drawn[order[-1]] += 1
    assert order == [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]
    assert drawn == [5, 3, 2]


@pytest.mark.parametrize(
    "shares",
    [[0.7, 0.3], [1.0, 1.0, 1.0], [0.9, 0.05, 0.03, 0.02], [3.0, 1e-3], [5, 3, 2, 1, 1, 1]],
)
def test_every_source_has_had_its_share_at_every_moment(shares):
    weights, drawn = whole_weights([float(s) for s in shares]), [0] * len(shares)
    for k in range(1, 2001):
        drawn[next_source(weights, drawn)] += 1
        off = [abs(count - k * w / sum(weights)) for w, count in zip(weights, drawn, strict=True)]
        assert max(off) < 1


def test_a_step_of_any_size_draws_by_the_shares_and_each_source_has_its_own_epochs():
    rows, shares = prompts(math=7, code=4), {"math": 3.0, "code": 1.0}
    stream = PromptStream(rows, 5, shares)
    drawn = [stream.draw(16) for _ in range(7)]
    assert [Counter(p.source for p in step) for step in drawn] == [{"math": 12, "code": 4}] * 7
    math = [p for step in drawn for p in step if p.source == "math"]
    for epoch in range(12):  # 84 draws of 7 prompts
        assert len(set(ids(math[7 * epoch : 7 * epoch + 7]))) == 7
    assert ids(math[:7]) != ids(math[7:14])


def test_a_stream_goes_on_from_its_cursor():
    rows, shares = prompts(math=7, code=4, web=2), {"math": 0.7, "code": 0.2, "web": 0.1}
    whole = ids(PromptStream(rows, 3, shares).draw(200))
    for count in (0, 1, 16, 137):
        stream = PromptStream(rows, 3, shares)
        stream.cursor = count
        assert stream.cursor == count
        assert ids(stream.draw(200 - count)) == whole[count:]
    assert ids(PromptStream(rows, 4, shares).draw(200)) != whole


def test_a_single_source_draws_as_it_always_did():
    # the order that checkpoints of earlier versions continue
    stream = PromptStream(prompts(a=3, b=2), 1)
    assert ids(stream.draw(7)) == ["a/1", "a/2", "a/0", "b/1", "b/0", "a/1", "b/0"]
    stream.cursor = 5
    assert ids(stream.draw(2)) == ["a/1", "b/0"]


def rollout(prompt, group):
    completion = Completion(
        token_ids=torch.tensor([1]),
        sampler_logprobs=torch.zeros(1),
        policy_mask=torch.ones(1, dtype=torch.bool),
        turn_index=torch.zeros(1, dtype=torch.long),
        finish_reason=FinishReason.STOP,
        policy_versions=((0, 0),),
    )
    return Rollout(rollout_id=f"1/{prompt.prompt_id}/{group}", prompt=prompt, completion=completion,
                   text="")  # fmt: skip


def test_metrics_of_a_source_are_those_of_its_rollouts():
    a, b, c = prompts(math=2, code=1)
    rollouts = tuple(rollout(p, i) for p in (a, b, c) for i in range(2))
    totals = torch.tensor([1.0, 0.0, 0.5, float("nan"), float("nan"), float("nan")]).double()
    scored = ScoredRollouts(
        rollouts=rollouts,
        rewards=totals[:, None],
        status=(("correct",),) * 6,
        reward_names=("r",),
        group_index=torch.tensor([0, 0, 1, 1, 2, 2]),
        truncated=torch.zeros(6, dtype=torch.bool),
    )
    assert source_metrics(["math", "code", "web"], scored, totals) == {
        "source/math/prompts": 2,
        "source/math/reward_mean": 0.5,
        "source/code/prompts": 1,
        "source/code/reward_mean": None,
        "source/web/prompts": 0,
        "source/web/reward_mean": None,
    }
    assert source_metrics([], scored, totals) == {}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def mixture(tmp_path):
    """Two files with the same ids and different columns, as overrides of a small run."""
    easy = [{"id": i, "question": f"{i} + 1", "answer": i + 1} for i in range(9)]
    hard = [{"id": i, "task": f"{i} * 3", "gold": i * 3, "source": "book"} for i in range(5)]
    sources = {
        "easy": {"source": str(write(tmp_path / "easy.jsonl", easy)), "share": 3},
        "hard": {
            "source": str(write(tmp_path / "hard.jsonl", hard)),
            "fields": {"question": "task", "answer": "gold"},
        },
    }
    return [
        f"data.train={json.dumps(sources)}",
        "rollout.prompts_per_step=4",
        "rollout.group_size=2",
        "rollout.max_tokens=8",
        "eval_samples=1",
        f"output_dir={tmp_path}",
        "checkpoint_every=1",
        "deterministic=true",
    ]


def loaded(overrides):
    config = load_config("quickstart", overrides)
    tokenizer, scorer = load_tokenizer(config.model.path), build_scorer(config)
    return config, asyncio.run(load_all_prompts(config, tokenizer, scorer))


def test_prompts_of_several_sources_are_named_by_them(mixture):
    config, found = loaded(mixture)
    assert [s.key for s in data_sources(config.data)] == [
        "data.train.easy.source",
        "data.train.hard.source",
        "data.eval.chain",
    ]
    assert len({p.prompt_id for p in found.train}) == 14
    first, last = found.train[0], found.train[-1]
    assert (first.prompt_id, first.source, first.answer) == ("easy/0", "easy", "1")
    assert (last.prompt_id, last.source, last.answer) == ("hard/4", "hard", "12")
    assert last.extras["source_in_file"] == "book"


def test_a_run_of_several_sources_is_the_same_when_it_is_resumed(mixture, tmp_path):
    def train(name, *overrides, resume=False):
        config = load_config(
            "quickstart", [*mixture, "data.eval={}", f"run_name={name}", *overrides]
        )
        display = Display(config.steps, Console(quiet=True))
        asyncio.run(run_training(config, display, resume=resume))
        rows = read_jsonl(tmp_path / name / "metrics.jsonl")[1:]
        tables = sorted((tmp_path / name / "rollouts").glob("*.parquet"))
        return rows, [pq.read_table(t).to_pylist() for t in tables]

    metrics, tables = train("whole", "steps=4")
    assert [(r["source/easy/prompts"], r["source/hard/prompts"]) for r in metrics] == [(3, 1)] * 4
    for row, table in zip(metrics, tables, strict=True):
        easy = [r for r in table if r["source"] == "easy"]
        assert len(easy) == 6
        mean = sum(r["reward/correct"] + 0.1 * r["reward/format"] for r in easy) / 6
        assert row["source/easy/reward_mean"] == pytest.approx(mean)
    train("parts", "steps=2")
    _, again = train("parts", "steps=4", resume=True)
    assert again == tables


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.train.hard.source=nowhere.jsonl", r"data.train.hard.source = .*no such file"),
        ("data.train.hard.source=task:chian", r"hard.source = 'task:chian': choose a task from"),
        ("data.train.hard.share=0", r"data.train.hard.share = 0: .*greater than 0"),
        ("data.train.hard.share=.nan", r"data.train.hard.share = nan: "),
        ("data.train.hard.weight=1", r"data.train.hard.weight: unknown key, choose from source, "),
        ("data.train.hard.fields={anwser: gold}", r"fields.anwser: .*did you mean 'answer'"),
        ("data.train={}", r"data.train = {}: "),
        ("data.train={a/b: {source: 'task:add'}}", r"data.train.a/b: got 'a/b'"),
        ("data.eval={held: easy=EASY}", r"format = 'easy'"),
        ("rollout.environment={name: chain}", r"data.train as a table has no effect here"),
    ],
)
def test_a_wrong_source_among_several_is_named(mixture, change, message):
    with pytest.raises(InputError, match=message) as told:
        loaded([*mixture, change])
    assert "\n" not in str(told.value)


def test_rewards_are_for_the_sources_that_they_name(mixture, tmp_path):
    golds = ['["assert f(1) == 2"]', ["assert f(2) == 3"], [{"stdin": ""}], "no tests"]
    tests = [{"id": i, "task": f"f{i}", "gold": gold} for i, gold in enumerate(golds)]
    write(tmp_path / "hard.jsonl", tests)
    rewards = [
        {"name": "math", "function": "math", "rows": {"source": ["easy", "task:chain:heldout"]}},
        {"name": "code", "function": "code", "rows": {"source": "hard"}},
    ]
    _, found = loaded([*mixture, f"rewards={json.dumps(rewards)}"])
    # two of the four hold no tests that the code reward can read; math is not asked about them
    assert [p.prompt_id for p in found.train if p.source == "hard"] == ["hard/0", "hard/1"]
    [notice] = found.notices
    assert notice.event["dropped"] == {"gold_error": ("2", "3")}
    with pytest.raises(InputError, match=r"2 of 4 golds cannot be read by the rewards: 2 \(code: "):
        loaded([*mixture, f"rewards={json.dumps(rewards)}", "data.on_bad_row=error"])


def test_a_benchmark_is_kept_apart_from_every_source(mixture, tmp_path):
    held = write(tmp_path / "held.jsonl", [{"id": "h", "question": "2 * 3", "answer": 6}])
    with pytest.raises(InputError, match=r"data.eval.held: 1 of 1 prompts are also training .* h$"):
        loaded([*mixture, f"data.eval={{held: {held}}}"])
