"""Every mistake in a config is one line that names the key, what it got and what is allowed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlnorm.errors import InputError
from rlnorm.rewards.data.formats import get_format
from rlnorm.trainers.config.check import precheck
from rlnorm.trainers.config.file import find_preset
from rlnorm.trainers.config.load import all_keys, load_config, sections, validate_config
from rlnorm.trainers.config.resolve import build_algorithm, build_scorer

SMALL = {
    "model": {"path": "shipped:quick"},
    "data": {"train": "task:chain"},
    "rewards": [{"name": "correct", "function": "boxed_exact"}],
}


def with_change(**change):
    return {**SMALL, **change}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learner": {"lrr": 1}}, r"learner.lrr: unknown key, .*, did you mean 'lr'\?"),
        ({"stepz": 3}, r"stepz: unknown key, .*, did you mean 'steps'\?"),
        ({"learner": {"lr": -1.0}}, r"learner.lr = -1.0: .*greater than 0"),
        ({"rollout": {"group_size": "many"}}, r"rollout.group_size = 'many': .*integer"),
        ({"learner": {"zero_stage": 4}}, r"learner.zero_stage = 4: .*0, 1, 2 or 3"),
        ({"lr": 1e-3}, r"lr: unknown key, .*, did you mean 'learner.lr'\?"),
        ({"model": {"path": "a", "lora_rank": 4}}, r"lora_rank: .*you mean 'model.lora.rank'\?"),
        ({"model": {"path": "a", "lora": 4}}, r"model.lora = 4: .*values, choose from rank, alpha"),
        ({"model": {"path": "a", "lora": {"alpha": 8}}}, r"model.lora.rank: missing"),
        ({"model": {"path": "a", "lora": {"rank": 0}}}, r"model.lora.rank = 0: .*equal to 1"),
        (
            {"model": {"path": "a", "lora": {"rnak": 1}}},
            r"from rank, alpha, target, did you mean 'rank'",
        ),
        (
            {"model": {"path": "a", "lora": {"rank": 1, "target": "q"}}},
            r"lora.target: got 'q', needs",
        ),
        (
            {"model": {"path": "a", "lora": {"rank": 1, "target": []}}},
            r"lora.target: got \[\], needs",
        ),
        (
            {"model": {"path": "a", "lora": {"rank": 1, "target": [3]}}},
            r"target: got \[3\], needs all",
        ),
        ({"learner": {"rank": 2}}, r"learner.rank: unknown key, .*, did you mean 'ranks'\?"),
        ({"learner": {"group_size": 4}}, r"group_size: .*, did you mean 'rollout.group_size'\?"),
        ({"learner": None}, r"learner = None: needs keys with values, choose from backend, lr, "),
        ({"rollout": {"environment": "chain"}}, r"environment = 'chain': needs keys with values"),
        ({"rewards": [{"name": "a", "function": "f", "weight": "w"}]}, r"rewards.0.weight = 'w': "),
        ({"run_name": 42}, r"run_name = 42: needs text \(a value in quotes is text\)"),
        ({"seed": 2**32}, r"seed = 4294967296: .*less than 4294967296"),
        ({"max_staleness": 2}, r"max_staleness = 2: "),
        ({"model": {}}, r"model.path: missing"),
        ({"rewards": []}, r"rewards = \[\]: .*at least 1"),
        ({"steps": True}, r"steps: got true, needs a number"),
        ({"learner": {"lr": float("inf")}}, r"learner.lr = inf: .*finite"),
        ({"learner": {"betas": [1.5, 0.9]}}, r"learner.betas.0 = 1.5: .*less than 1"),
        ({"rewards": [{"name": "mean", "function": "f"}]}, r"rewards.0.name: got 'mean', which in"),
        ({"rewards": [{"name": "a/b", "function": "f"}]}, r"rewards.0.name: got 'a/b', .* without"),
        ({"rollout": {"stop": ["a", ""]}}, r"rollout.stop.1 = '': .*at least 1 char"),
        ({"run_name": ""}, r"run_name: got '', needs the name of a file"),
        ({"run_name": "a\nb"}, r"run_name: got 'a\\nb', needs the name of a file in one line"),
        ({"run_name": ".."}, r"run_name: got '..', needs the name of a file"),
        ({"run_name": "a/b"}, r"run_name: got 'a/b', .* without /"),
        ({"run_name": "é" * 101}, r"run_name: got 'é.*at most 200 bytes"),
        (
            {"data": {"train": "task:chain", "eval": {"../b": "task:add"}}},
            r"data.eval.../b: got '../b', needs the name of a file",
        ),
        ({"learner": {"ranks": 2}}, r"learner.ranks has no effect .* learner.backend: deepspeed"),
        ({"rollout": {"engines": 2}}, r"rollout.engines has no effect .* rollout.backend: vllm"),
        ({"cluster": {"address": "h:1"}}, r"cluster.address has no effect here"),
        (
            {"deterministic": True, "rollout": {"backend": "vllm"}},
            r"deterministic has no effect .* a run in one process",
        ),
        (
            {
                "rollout": {"environment": {"name": "chain"}},
                "data": {"train": "env:train", "fields": {"id": "i"}},
            },
            r"data.fields has no effect here: it needs no environment",
        ),
        (
            {"rollout": {"backend": "vllm", "temperature": 2.5}},
            r"rollout.temperature = 2.5: vLLM accepts at most 2",
        ),
        ({"learner": {"minibatches": 65}}, r"learner.minibatches = 65: at most .* = 64"),
        (
            {"learner": {"old_logprobs": "sampler"}, "rollout": {"top_p": 0.9}},
            r"learner.old_logprobs = 'sampler' with top_p",
        ),
        (
            {"rewards": [{"name": "a", "function": "f", "wight": 1}]},
            r"rewards.0.wight: unknown key",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_key_value_and_allowed(change, message):
    with pytest.raises(InputError, match=message) as caught:
        validate_config(with_change(**change))
    assert "\n" not in str(caught.value)


def test_overrides_are_dotted_reach_list_items_by_name_and_read_scientific_numbers(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    config = load_config(
        str(path), ["learner.lr=1e-6", "rewards.correct.weight=2", "algorithm.loss=gspo", "steps=7"]
    )
    assert config.learner.lr == 1e-6
    assert config.rewards[0].weight == 2
    assert config.algorithm == {"loss": "gspo"}
    assert config.steps == 7


def test_the_place_that_a_mistake_names_is_the_key_that_sets_it_right(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    with pytest.raises(InputError, match=r"rewards.0.weight = 'x'"):
        load_config(str(path), ["rewards.0.weight=x"])
    assert load_config(str(path), ["rewards.0.weight=3"]).rewards[0].weight == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"c.yaml: is empty"),
        ("- a\n- b\n", r"expected keys and values, got list"),
        ("steps: 3\nsteps: 4\n", r"line 2, column 1: the key 'steps' is given twice"),
        ("learner: {lr: 1, lr: 2}\n", r"line 1, column 18: the key 'lr' is given twice"),
        ("learner:\n\tlr: 1\n", r"line 2, column 1: .*; indent with spaces"),
        ("a: 1\n---\na: 2\n", r"line 2, column 1: .* found another document"),
        ("a: " + "[" * 3000, r"nested too deeply"),
    ],
)
def test_a_config_file_that_is_wrong_as_yaml_is_told_with_the_line(tmp_path, text, told):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)


def test_exponents_are_numbers_and_dates_are_text_wherever_they_stand(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        yaml.safe_dump(SMALL)
        + "algorithm: {name: grpo, loss: {name: ppo_clip, clip_low: 2e-1}}\nrun_name: 2024-13-01\n"
    )
    config = load_config(str(path), ["rewards.correct.options={a: 1E3, b: [.5e-2, '1e1', e1]}"])
    assert config.algorithm["loss"]["clip_low"] == 0.2
    assert config.run_name == "2024-13-01"
    assert config.rewards[0].options == {"a": 1000.0, "b": [0.005, "1e1", "e1"]}


def test_overriding_a_slot_keeps_the_named_algorithm(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(with_change(algorithm="gdpo")))
    config = load_config(str(path), ["algorithm.aggregate=token-mean"])
    assert config.algorithm == {"name": "gdpo", "aggregate": "token-mean"}


@pytest.mark.parametrize("override", ["steps", "=3", "rewards.nope.weight=1", "steps=[1"])
def test_a_malformed_override_is_told(tmp_path, override):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    with pytest.raises(InputError, match="override"):
        load_config(str(path), [override])


def test_an_unknown_preset_names_the_shipped_ones():
    with pytest.raises(
        InputError, match=r"shipped presets: .*quickstart.*did you mean 'quickstart'"
    ):
        find_preset("quickstrat")


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (
            [*SMALL["rewards"], {"name": "x", "function": "exact", "gate": "corect"}],
            r"rewards.x.gate = 'corect': allowed .*did you mean 'correct'",
        ),
        (SMALL["rewards"] * 2, r"component 'correct' appears 2 times"),
        (
            [{"name": "t", "function": "tool_calls", "weight": {"format": 1.0}}],
            r"rewards.t.weight names \['format'\]: components are \['correctness', 'format'\]",
        ),
    ],
)
def test_a_mistake_among_the_rewards_is_told_by_name(rewards, message):
    with pytest.raises(InputError, match=message):
        build_scorer(validate_config(with_change(rewards=rewards)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise RuntimeError('at\\nimport')", r"RuntimeError: at import \(.*broken_0.py, line 1\)"),
        ("import nothing_like_it", r"ModuleNotFoundError: No module named .*broken_1.py, line 1"),
        ("def f(", r"SyntaxError: .*\(.*broken_2.py, line 1\)"),
        ("import sys; sys.exit(0)", r"SystemExit: 0 \(.*broken_3.py, line 1\)"),
        ("raise ValueError('no')", r"ValueError: no \(.*broken_4.py, line 1\)"),
    ],
)
def test_a_users_module_that_raises_while_it_is_loaded_is_told(
    tmp_path, monkeypatch, request, body, message
):
    name = f"broken_{request.node.callspec.indices['body']}"
    (tmp_path / f"{name}.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    function = {"name": "a", "function": f"{name}:f"}
    where = f"rewards.a.function = '{name}:f': importing it: "
    with pytest.raises(InputError, match=f"^{where}{message}") as told:
        build_scorer(validate_config(with_change(rewards=[function])))
    assert "\n" not in str(told.value)


def test_an_estimators_file_that_raises_or_ends_the_process_is_told(tmp_path):
    for body, told in (("x = undefined", "NameError: name 'undefined'"), ("exit()", "SystemExit")):
        path = tmp_path / f"{told[:4]}.py"
        path.write_text(body)
        config = validate_config(with_change(algorithm={"estimator": f"{path}:f"}))
        with pytest.raises(InputError, match=rf"importing it: {told}.*, line \d+\)"):
            build_algorithm(config)


MINE = """
def hinted(rewards, group_index, *, k: int = 2):
    return rewards

def bare(rewards, group_index, *, k=2, powers=(1.0, 2.0)):
    return rewards
"""


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ({"estimator": {"name": "mine.py:hinted", "k": "three"}}, r"k = 'three' \(str\): .* int"),
        ({"estimator": {"name": "mine.py:bare", "k": "three"}}, r"k = 'three' \(str\): .* float"),
        ({"estimator": {"name": "mine.py:bare", "powers": "two"}}, r"powers = 'two'"),
        ({"name": "pass_at_k", "estimator": {"eps": "three"}}, r"eps = 'three' \(str\): pass_at_k"),
        ({"estimator": {"name": "grpo", "weights": ["a"]}}, r"weights = \['a'\] \(list\): grpo"),
        ({"estimator": {"name": "grpo", "weights": [1, 2]}}, r"weights = \[1, 2\]: needs one for"),
        ({"loss": {"name": "ppo_clip", "clip_low": "x"}}, r"loss\.clip_low = 'x'"),
        ({"aggregate": {"name": "token-mean", "eps": "x"}}, r"aggregate\.eps = 'x'"),
        ({"regularizers": [{"name": "kl", "coef": [1]}]}, r"regularizers\[0\]\.coef = \[1\]"),
        ({"sample_plan": {"max_rounds": "x"}}, r"sample_plan\.max_rounds = 'x'"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused_before_anything_starts(
    tmp_path, monkeypatch, algorithm, message
):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^algorithm: .*{message}"):
        build_algorithm(validate_config(with_change(algorithm=algorithm)))


WEIGHTED = [
    {"name": "correct", "function": "boxed_exact"},
    {"name": "format", "function": "boxed_format", "weight": 0.1},
]


def test_weights_that_an_estimator_would_ignore_are_refused_by_name():
    def mine(rewards, group_index):
        return rewards.sum(1)

    config = with_change(rewards=WEIGHTED, algorithm={"name": "grpo", "estimator": mine})
    told = r"^rewards\.format\.weight = 0\.1: the estimator <python>:mine takes no weights; give"
    with pytest.raises(InputError, match=told):
        build_algorithm(validate_config(config))
    equal = [WEIGHTED[0], {**WEIGHTED[1], "weight": 1.0}]
    build_algorithm(validate_config({**config, "rewards": equal}))


@pytest.mark.parametrize("name", ["grpo", "gdpo", "bnpo", "mc_grpo", "opo"])
def test_the_weights_of_the_rewards_reach_the_estimator(name):
    config = validate_config(with_change(rewards=WEIGHTED, algorithm=name))
    assert build_algorithm(config).estimator.options["weights"] == [1.0, 0.1]


def test_weights_that_are_all_0_are_refused():
    nothing = [{**reward, "weight": 0.0} for reward in WEIGHTED]
    told = r"the weights of all rewards, \['correct', 'format'\], are 0"
    with pytest.raises(InputError, match=told):
        build_algorithm(validate_config(with_change(rewards=nothing)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("task:chian", r"data.train = 'task:chian': choose a task from add, chain"),
        ("task:chain:test", r"choose a split from train, heldout, hard"),
        ("env:train", r"needs rollout.environment"),
        ("data.csv", r"needs a file ending in .jsonl, .json, .parquet, a folder of them, hf:"),
        ("nowhere.jsonl", r"no such file nowhere.jsonl"),
        ("gsm8=x.jsonl", r"did you mean 'gsm8k'"),
        ("''", r"data.train = '': is empty; name a file, hf:OWNER/NAME or task:chain"),
        ("gsm8k=", r"data.train = 'gsm8k=': names no file; gsm8k from the hub is hf:gsm8k:SPLIT"),
        ("x" * 5000 + ".jsonl", r"File name too long"),
        ("{a: {source: ''}}", r"data.train.a.source = '': is empty"),
    ],
)
def test_a_data_source_that_names_nothing_is_told(source, message):
    with pytest.raises(InputError, match=message):
        precheck(load_config("quickstart", [f"data.train={source}"]))


@pytest.mark.parametrize("address", ["foo", ":6379", "host:", "host:port"])
def test_the_address_of_a_cluster_is_host_and_port(address):
    config = load_config("cluster_cpu", [f"cluster.address={address!r}"])
    with pytest.raises(InputError, match=r"cluster.address = .*: expected host:port"):
        precheck(config)


def test_an_environment_has_problems_of_its_own_and_a_known_name():
    with pytest.raises(InputError, match="choose env:train or env:test"):
        precheck(load_config("multi_turn", ["data.train=task:chain"]))
    with pytest.raises(InputError, match=r"name = 'chian': allowed .*did you mean 'chain'"):
        precheck(load_config("multi_turn", ["rollout.environment.name=chian"]))


def shipped() -> list[Path]:
    return sorted(find_preset("quickstart").parent.glob("*.yaml"))


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.name)
def test_every_shipped_preset_is_found_by_its_name_and_names_known_data(path):
    name = path.name.removesuffix(".yaml")
    assert find_preset(name).samefile(path)
    config = load_config(name)
    for source in (config.data.train, *config.data.eval.values()):
        data_format, equals, _ = source.partition("=")
        if equals:
            assert get_format(data_format) is not None


def test_bfloat16_weights_need_a_learner_that_keeps_a_float32_copy():
    config = load_config("quickstart", ["model.dtype=bfloat16"])
    with pytest.raises(InputError, match="small updates are lost"):
        precheck(config)


@pytest.mark.parametrize("algorithm", ["grpo", "dapo", "rloo"])
def test_one_rollout_a_prompt_is_refused_where_rollouts_are_compared(algorithm):
    config = load_config("quickstart", [f"algorithm={algorithm}", "rollout.group_size=1"])
    with pytest.raises(InputError, match=r"rollout.group_size = 1 .* advantage 0; use 2 or more"):
        precheck(config)


@pytest.mark.parametrize("algorithm", ["reinforce_pp", "remax", "mc_grpo", "grpo@verl"])
def test_one_rollout_a_prompt_is_enough_for_other_baselines(algorithm):
    precheck(load_config("quickstart", [f"algorithm={algorithm}", "rollout.group_size=1"]))


def test_a_config_that_is_no_text_is_told(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"c.yaml: 'utf-8' codec"):
        load_config(str(path))


def test_shipped_presets_are_valid_and_hold_differences_only():
    for path in shipped():
        table = yaml.safe_load(path.read_text())
        full = validate_config(table).model_dump(mode="json")
        minimal = {**SMALL, "model": {"path": "x"}}
        defaults = validate_config(minimal).model_dump(mode="json")
        for key, value in table.items():
            if key in ("model", "data", "rewards"):
                continue
            if isinstance(value, dict) and isinstance(defaults[key], dict):
                same = [k for k in value if full[key][k] == defaults[key][k]]
            else:
                same = [key] if full[key] == defaults[key] else []
            assert not same, f"{path.name}: {key} {same} only repeat the default"


def test_there_are_at_most_85_keys_at_every_depth_and_each_is_documented():
    keys, nested = all_keys(), sections()
    assert {"steps", "learner.lr", "rewards.weight", "model.lora.rank"} <= set(keys)
    assert not set(keys) & set(nested)
    assert len(keys) == len(set(keys)) <= 85
    undocumented = [
        f"{at}.{name}"
        for at, section in nested.items()
        for name, field in section.model_fields.items()
        if f"{at}.{name}".lstrip(".") in keys and not field.description
    ]
    assert undocumented == []


REFUSALS = """
import sys
from pathlib import Path
from rlnorm.launch.estimators import print_algorithm
from rlnorm.errors import InputError
from rlnorm.trainers.compare.command import run_comparison
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.config.check import precheck, precheck_eval

good = load_config("quickstart", ["output_dir=nowhere"])
for refuse, *arguments in (
    (precheck, load_config("quickstart", ["data.train=task:chian"])),
    (precheck, load_config("quickstart", ["model.path=./nowhere"])),
    (precheck, load_config("quickstart", ["algorithm=gropo"])),
    (precheck_eval, good, Path("nowhere"), None),
    (print_algorithm, None, "gropo"),
    (lambda names: run_comparison(
        good, names, seeds=1, baseline="grpo", out=None, train=[]), ["grpo", "gropo"]),
):
    try:
        refuse(*arguments)
    except InputError:
        continue
    sys.exit(f"{arguments} passed")
heavy = {"torch", "transformers", "ray", "vllm", "deepspeed", "wandb", "plotly"}
sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)
"""


def test_a_mistake_is_told_before_anything_heavy_is_imported():
    command = [sys.executable, "-c", REFUSALS]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_the_config_file_of_a_run_loads_back_equal(tmp_path):
    from rlnorm.trainers.record.run_dir import dump_config

    config = load_config("quickstart", ["learner.lr=3e-4"])
    path = Path(tmp_path / "config.yaml")
    path.write_text(dump_config(config))
    assert load_config(str(path)) == config
