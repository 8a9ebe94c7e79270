"""Every mistake in a config is one line that names the key, what it got and what is allowed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rewards.errors import InputError
from trainers.config import Config, count_keys, find_preset, load_config, validate_config

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
        ({"learner": {"lrr": 1}}, r"learner.lrr: unknown key, .*; did you mean lr\?"),
        ({"stepz": 3}, r"stepz: unknown key, .*; did you mean steps\?"),
        ({"learner": {"lr": -1.0}}, r"learner.lr = -1.0: .*greater than 0"),
        ({"rollout": {"group_size": "many"}}, r"rollout.group_size = 'many': .*integer"),
        ({"learner": {"zero_stage": 4}}, r"learner.zero_stage = 4: .*0, 1, 2 or 3"),
        ({"max_staleness": 2}, r"max_staleness = 2: "),
        ({"model": {}}, r"model.path: missing"),
        ({"rewards": []}, r"rewards = \[\]: .*at least 1"),
        (
            {"rewards": [*SMALL["rewards"], {"name": "x", "function": "f", "gate": "corect"}]},
            r"rewards.x.gate = 'corect': choose from \['correct', 'x'\]",
        ),
        ({"rewards": SMALL["rewards"] * 2}, r"component 'correct' is declared twice"),
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
    with pytest.raises(InputError, match=r"shipped presets: .*quickstart.*did you mean quickstart"):
        find_preset("quickstrat")


def test_shipped_presets_are_valid_and_hold_differences_only():
    for path in find_preset("quickstart").parent.glob("*.yaml"):
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


def test_there_are_at_most_sixty_keys_and_each_is_documented():
    assert count_keys() <= 60
    undocumented = [
        f"{section.__name__}.{name}"
        for section in [
            Config,
            *(
                type(getattr(validate_config(SMALL), n))
                for n in ("model", "data", "rollout", "learner", "logging")
            ),
        ]
        for name, field in section.model_fields.items()
        if not field.description
        and name not in ("model", "data", "rewards", "rollout", "learner", "cluster", "logging")
    ]
    assert undocumented == []


def test_reading_a_config_imports_nothing_heavy():
    code = (
        "import sys; from trainers.config import load_config; load_config('quickstart');"
        "heavy = {'torch', 'transformers', 'ray', 'vllm', 'deepspeed', 'wandb', 'plotly'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr


def test_the_config_file_of_a_run_loads_back_equal(tmp_path):
    from trainers.run_dir import dump_config

    config = load_config("quickstart", ["learner.lr=3e-4"])
    path = Path(tmp_path / "config.yaml")
    path.write_text(dump_config(config))
    assert load_config(str(path)) == config
