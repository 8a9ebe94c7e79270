"""Whatever is overridden, a config is valid or refused in one line that names a key."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlnorm.errors import InputError
from rlnorm.trainers.config.file import find_preset, read_table, shipped_presets
from rlnorm.trainers.config.load import all_keys, load_config, sections, validate_config
from rlnorm.trainers.config.resolve import build_algorithm, build_scorer

SUITE = settings(max_examples=100, derandomize=True, deadline=None, database=None)
NIGHTLY = settings(max_examples=4000, deadline=None, database=None)

PRESETS = sorted(shipped_presets())
KEYS = sorted({*all_keys(), *sections()} - {""})
letters = st.text(st.characters(exclude_categories=()), max_size=20)
words = st.sampled_from(["grpo", "math", "token", "none", "runs/x", "gsm8k", "{}", "[", "~"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | letters | words
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(letters | st.sampled_from(["name", "rank", "weight"]), inner, max_size=3)
    ),
    max_leaves=5,
)
keys = st.sampled_from(KEYS) | st.tuples(st.sampled_from(KEYS), letters | words).map(".".join)
assignments = (
    st.tuples(keys, values.map(repr) | letters | words).map("=".join)
    | st.tuples(keys, scalars.map(json.dumps)).map("=".join)
    | letters
)


def outcome(load, *arguments):
    """The config, or the text of the error."""
    try:
        return load(*arguments)
    except InputError as error:
        return str(error)


def resolved(load, *arguments):
    """The config, its rewards and its algorithm found."""
    config = load(*arguments)
    build_scorer(config)
    build_algorithm(config)
    return config


def is_valid_or_one_line(found):
    if isinstance(found, str):
        assert found.strip()
        assert found.isprintable()
    else:
        # what a run writes down is the config again
        written = yaml.safe_dump(found.model_dump(mode="json"))
        assert validate_config(yaml.safe_load(written)) == found


@SUITE
@given(preset=st.sampled_from(PRESETS), overrides=st.lists(assignments, min_size=1, max_size=3))
def test_any_override_is_valid_or_one_line(preset, overrides):
    is_valid_or_one_line(outcome(resolved, load_config, preset, overrides))


@pytest.mark.nightly
@NIGHTLY
@given(preset=st.sampled_from(PRESETS), overrides=st.lists(assignments, min_size=1, max_size=3))
def test_many_overrides_are_valid_or_one_line(preset, overrides):
    is_valid_or_one_line(outcome(resolved, load_config, preset, overrides))


@SUITE
@given(preset=st.sampled_from(PRESETS), section=st.sampled_from(KEYS), value=values)
def test_any_value_in_a_table_is_valid_or_one_line(preset, section, value):
    table = read_table(find_preset(preset))
    *parents, leaf = section.split(".")
    node = table
    for name in parents:
        child = node.get(name)
        node[name] = child = child if isinstance(child, dict) else {}
        node = child
    node[leaf] = value
    is_valid_or_one_line(outcome(resolved, validate_config, table))


@pytest.mark.parametrize("key", ["a\nb", "a\x1bb"])
def test_a_key_that_cannot_be_printed_is_refused_in_one_line(key):
    found = outcome(load_config, "quickstart", [f"learner.{key}=1"])
    assert found.isprintable()


@pytest.mark.parametrize("assignment", ["algorithm.sample_plan=0", "algorithm.correction=0"])
def test_a_slot_that_is_no_table_is_refused(assignment):
    is_valid_or_one_line(outcome(resolved, load_config, "quickstart", [assignment]))
