"""A multi-turn run of a model with a short context: rollouts end there, the run goes on."""

import asyncio
import json
import shutil

import pytest
from rich.console import Console

from rlnorm.errors import InputError
from rlnorm.rewards.environments.chat import ChatTokenizer
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.files import read_jsonl
from rlnorm.trainers.models import load_tokenizer
from rlnorm.trainers.prompts import problem_prompts
from rlnorm.trainers.record.display import Display
from rlnorm.trainers.rollout.environment import resolve_environment
from rlnorm.trainers.run import run_training
from rlnorm.trainers.tasks import shipped_model

LONG = "rollout.environment={name: chain, turns: [8, 8], max_turns: 9}"


@pytest.fixture
def model(tmp_path):
    """The shipped multi-turn model with another context length."""

    def copy(context):
        folder = tmp_path / f"turns_{context}"
        shutil.copytree(shipped_model("turns"), folder)
        config = json.loads((folder / "config.json").read_text())
        config["max_position_embeddings"] = context
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return copy


def test_rollouts_end_at_the_context_and_the_run_trains(model, tmp_path):
    overrides = [
        f"model.path={model(48)}",
        LONG,
        "rollout.max_tokens=12",
        "data.train_limit=16",
        "data.eval={}",
        "rollout.prompts_per_step=8",
        "rollout.group_size=2",
        "steps=2",
        f"output_dir={tmp_path}",
        "run_name=short",
    ]
    config = load_config("multi_turn", overrides)
    asyncio.run(run_training(config, Display(2, Console(quiet=True))))
    rows = read_jsonl(tmp_path / "short" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2]
    # eight turns need more than 48 tokens: cut, not failed
    assert rows[-1]["completion/truncated_frac"] == 1.0
    assert rows[-1]["reward/solved/valid_frac"] == 1.0


def environment_prompts(*overrides):
    config = load_config("multi_turn", list(overrides))
    tokenizer = ChatTokenizer(load_tokenizer(config.model.path))
    environment = resolve_environment(config)
    return environment, asyncio.run(problem_prompts(environment, tokenizer, "env:test"))


def test_a_first_prompt_that_fills_the_context_is_told_at_load(model):
    path = model(11)
    with pytest.raises(InputError) as error:
        environment_prompts(f"model.path={path}")
    message = str(error.value)
    assert "the first prompt of 256 of 256 problems of env:test fills the context" in message
    assert "holds 11 tokens with the completion: test-00000 with " in message
    assert "model.path" in message
    assert "\n" not in message


def test_the_smallest_stated_context_counts(model):
    path = f"model.path={model(48)}"
    asked = "rollout.environment={name: chain, context_tokens: 30}"
    assert resolve_environment(load_config("multi_turn", [path])).limits.context_tokens == 48
    assert resolve_environment(load_config("multi_turn", [path, asked])).limits.context_tokens == 30
    engines = ["rollout.backend=vllm", "rollout.engine_options={max_model_len: 40}"]
    config = load_config("multi_turn", [path, *engines])
    assert resolve_environment(config).limits.context_tokens == 40


OWN = """
from rlnorm.rewards.environments.chain import ChainEnv

class Mine(ChainEnv):
    def __init__(self, *, turns=(2, 3), pace=2):
        super().__init__(turns=turns)
"""


def test_an_environment_in_a_file_of_its_own(model, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    path = f"model.path={model(48)}"
    asked = "rollout.environment={name: 'mine.py:Mine', pace: 3}"
    environment = resolve_environment(load_config("multi_turn", [path, asked]))
    assert type(environment.make("train")).__name__ == "Mine"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("{name: chain, operations: two}", r"operations = 'two' \(str\): chain takes int"),
        ("{name: chain, turns: 3}", r"turns = 3 \(int\): chain takes Sequence\[int\]"),
        ("{name: 'mine.py:Mine', pace: fast}", r"pace = 'fast' \(str\): mine.py:Mine takes float"),
        ("{name: chain, max_turns: four}", r"max_turns = 'four' \(str\): a rollout takes int"),
        ("{name: chain, context_tokens: [8]}", r"context_tokens = \[8\] \(list\): a rollout takes"),
        ("{name: chain, max_turns: 0}", r"max_turns = 0: must be > 0"),
        ("{name: chian}", r"name = 'chian': allowed .*did you mean 'chain'"),
        ("{name: 'none.py:Mine'}", r"name = 'none.py:Mine': no such file"),
    ],
)
def test_a_wrong_environment_is_refused_in_one_line(model, tmp_path, monkeypatch, table, message):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    config = load_config("multi_turn", [f"model.path={model(48)}", f"rollout.environment={table}"])
    with pytest.raises(InputError, match=message) as told:
        resolve_environment(config)
    assert str(told.value).startswith("rollout.environment")
    assert "\n" not in str(told.value)


RESETS = """
class Base:
    stop = ()

    async def step(self, text):
        raise NotImplementedError

class Fails(Base):
    async def reset(self, seed):
        return {}["no such problem"]

class Text(Base):
    async def reset(self, seed):
        return "2 + 2?"

class Nothing(Base):
    async def reset(self, seed):
        return []

class Half(Base):
    async def reset(self, seed):
        return [{"role": "user", "content": "\\ud83d"}]
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Fails", r": KeyError: 'no such problem' \(.*resets\.py, line 10"),
        ("Text", " returned '2 \\+ 2\\?': needs a list of {role, content} messages of text"),
        ("Nothing", r" returned \[\]: needs a list"),
        ("Half", r" returned \[{'role': 'user', 'content': '\\ud83d'}\]: needs a list"),
    ],
)
def test_an_environment_that_opens_no_problem_is_one_line(tmp_path, name, told):
    (tmp_path / "resets.py").write_text(RESETS)
    over = [f"rollout.environment={{name: '{tmp_path}/resets.py:{name}'}}", "data.train=env:train"]
    config = load_config("quickstart", [*over, "data.eval={}"])
    tokenizer = ChatTokenizer(load_tokenizer("shipped:quick"))
    with pytest.raises(InputError, match=rf"rollout\.environment: reset\(0\){told}") as caught:
        asyncio.run(problem_prompts(resolve_environment(config), tokenizer, "env:train"))
    assert "\n" not in str(caught.value)
