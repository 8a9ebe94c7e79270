"""`rlnorm eval`: which model it measures, what it makes of missing verdicts, how sure it is."""

import io
import math
from contextlib import AsyncExitStack

import pytest
import torch
from rich.console import Console

from rlnorm.errors import InputError
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.resolve import build_scorer
from rlnorm.trainers.config.schema import RewardConfig
from rlnorm.trainers.config.sources import data_sources
from rlnorm.trainers.errors import RunError
from rlnorm.trainers.evaluate.benchmarks import Problem, summarize
from rlnorm.trainers.evaluate.command import Watched, run_evaluation, start_pool, verdict_table
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.models import load_tokenizer
from rlnorm.trainers.prompts import load_prompts
from rlnorm.trainers.record.verdicts import best, mean, mean_interval, wilson
from rlnorm.trainers.rollout.sampler import SingleTurn
from rlnorm.trainers.rollout.types import SamplingParams
from rlnorm.types import Prompt

NAN = math.nan
FEW = ["eval_samples=2", "rollout.max_tokens=8", "data.eval={c: 'task:chain:heldout'}"]


async def test_a_lora_config_is_measured_by_its_plain_model(tmp_path):
    quiet, measured = Console(file=io.StringIO()), []
    for name, options in (("plain", []), ("lora", ["model.lora.rank=4"])):
        config = load_config("quickstart", [*FEW, *options])
        measured.append(await run_evaluation(config, None, tmp_path / name, quiet))
    # adapters start at zero, so an untrained LoRA model is the plain one
    assert measured[0] == measured[1]
    assert len(read_jsonl(tmp_path / "lora" / "c.jsonl")) == 512


async def test_verdicts_that_cannot_be_written_do_not_cost_the_numbers(tmp_path):
    (tmp_path / "file").write_text("")
    shown = io.StringIO()
    config = load_config("quickstart", [*FEW, "eval_samples=1"])
    with pytest.raises(RunError, match=r"--out .*file: .*; the verdicts were not saved"):
        await run_evaluation(config, None, tmp_path / "file", Console(file=shown, width=200))
    assert "512" in shown.getvalue()


async def test_a_reward_that_fails_ends_an_evaluation_with_one_line():
    reward = {"name": "mine", "function": lambda sample: 1 / 0}
    config = load_config("quickstart", ["eval_samples=1", "data.eval={held: task:chain:heldout}"])
    config = config.model_copy(update={"rewards": [RewardConfig(**reward)]})
    with pytest.raises(RunError, match=r"^reward 'mine' failed on 1024 of 1024 samples; the first"):
        await run_evaluation(config, None, None, Console(file=io.StringIO()))


async def test_a_benchmark_row_that_no_reward_is_for_is_refused():
    rows = ["rewards.correct.rows={source: task:chain}"]
    config = load_config("quickstart", [*rows, "data.eval={held: task:chain:heldout}"])
    with pytest.raises(
        InputError, match=r"^data\.eval\.held: no reward applies to 512 of 512 rows"
    ):
        await run_evaluation(config, None, None, Console(file=io.StringIO()))


def problem(name: str, greedy: float, sampled: tuple[float, ...]) -> Problem:
    return Problem(
        prompt=Prompt(prompt_id=name, token_ids=(1,)),
        greedy=greedy,
        sampled=sampled,
        greedy_text="",
        sampled_text="",
        tokens_mean=3.0,
    )


def shown(problems: list[Problem]) -> str:
    config = load_config("quickstart", ["eval_samples=2"])
    console = Console(file=io.StringIO(), width=200)
    console.print(verdict_table(config, summarize(problems, "c"), {"c": problems}))
    return console.file.getvalue()


@pytest.mark.parametrize("half", [(NAN, 1.0), (1.0, NAN)], ids=str)
def test_failed_verdicts_are_left_out_of_every_cell_wherever_they_stand(half):
    text = shown(
        [
            problem("a", 1.0, half),
            problem("b", NAN, (0.0, 0.0)),
            problem("c", 0.0, (NAN, NAN)),
            problem("d", 1.0, (0.0, 1.0)),
        ]
    )
    assert "nan" not in text
    # greedy 2 of 3, Wilson: (2/3 + z^2/6 +- z sqrt(2/27 + z^2/36)) / (1 + z^2/3), z = 1.96
    greedy = ("66.7%", "20.8 to 93.9")
    # sampled: 2 of 5 verdicts; problems 1, 0 and .5
    sampled = ("40.0%", "0.0 to 100.0")
    # solved by any: 1, 0, 1, which is greedy's share
    body = [line.split("│")[3:6] for line in text.splitlines() if "│" in line]
    lines = [[cell.strip() for cell in line] for line in body]
    assert [list(row) for row in zip(greedy, sampled, greedy, strict=True)] == lines
    title = " ".join(text.split())
    assert "95% intervals over problems (Wilson; avg@k: bootstrap)" in title


def test_no_verdict_at_all_is_no_number():
    text = shown([problem("a", NAN, (NAN, NAN))])
    assert text.count("nan%") == text.count("nan to nan") == 3


def test_wilson_is_the_textbook_interval():
    # Newcombe, Stat. Med. 17 (1998) 857-872, table I, method 3
    for wins, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
                                   (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):  # fmt: skip
        assert wilson(wins / count, count) == pytest.approx((low, high), abs=5e-5)


def test_fractions_are_bootstrapped_and_equal_ones_are_not_certain():
    # 400 problems of mean .5 and standard deviation sqrt(.125): reach 1.96 * .3536 / 20
    low, high = mean_interval([0.0, 0.5, 0.5, 1.0] * 100)
    reach = 1.96 * math.sqrt(0.125 / 400)
    assert (low, high) == pytest.approx((0.5 - reach, 0.5 + reach), abs=0.004)
    low, high = mean_interval([0.5] * 10)
    assert low < 0.3
    assert high > 0.7
    assert mean_interval([1.0] * 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)


def test_missing_verdicts_are_none_in_files_and_nan_in_memory():
    assert mean([1.0, None, NAN, 0.0]) == 0.5
    assert best([NAN, 0.0, None, 1.0, NAN]) == 1.0
    assert math.isnan(mean([None]))
    assert math.isnan(best([NAN]))


async def test_slices_change_no_completion_and_are_told():
    config, tokenizer = load_config("quickstart", FEW), load_tokenizer("shipped:quick")
    source, scorer = data_sources(config.data)[0], build_scorer(config)
    rows, _ = load_prompts(
        source, config=config.data, tokenizer=tokenizer, scorer=scorer, limit=None
    )
    prompts, seeds, told = rows[:7], [[i, i + 10] for i in range(7)], []
    async with AsyncExitStack() as stack:
        whole = SingleTurn(await start_pool(config, tokenizer, stack))
        ask = (prompts, seeds, SamplingParams(max_tokens=8))
        expected = await whole.sample(*ask)
        sliced = await Watched(whole, told.append, size=6).sample(*ask)
    assert told == [6, 6, 2]
    for one, other in zip(expected, sliced, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.completion.token_ids, b.completion.token_ids)
