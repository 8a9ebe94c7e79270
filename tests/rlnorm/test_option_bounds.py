"""Numbers out of their domain are refused for every stage, from a config and in a direct call."""

import inspect

import pytest
import torch

from rlnorm.advantages import ESTIMATORS
from rlnorm.algorithms import resolve_algorithm
from rlnorm.methods import STAGES
from rlnorm.options import fits, options_of
from rlnorm.regularizers import SELECTORS
from rlnorm.stages import data_of
from rlnorm.testing.batches import random_batch

FREE = {
    *(("bnpo", name) for name in ("min_value", "max_value")),
    ("cispo", "is_floor"),
    ("conditioned", "threshold"),
    *(("clip", name) for name in ("low", "high")),
    *(("clip_cov", name) for name in ("low", "high")),
    ("opsm", "threshold"),
    ("ppo_ewma", "clip"),
}
"""Options of either sign; ppo_ewma's clip is checked by a rule, which knows open intervals."""
NEEDED = {
    "conditioned": {"easy": 0, "hard": 1, "threshold": 0.5},
    "overlong": {"max_length": 10, "cache": 5},
    "opsm": {"threshold": 0.1},
}
LISTED = ("shaping", "modulators", "regularizers", "correction")


def functions():
    """(slot, name, function) of every stage, selectors of regularizers included."""
    for slot, table in STAGES.items():
        for name, function in table.items():
            yield slot, name, function
            if slot == "regularizers" and name in SELECTORS:
                yield slot, name, SELECTORS[name]


def numbers(function):
    """The options that are numbers, each with its hint."""
    parameters = inspect.signature(function).parameters
    for option in options_of(function):
        hint = parameters[option].annotation
        if fits(1, hint) and not fits(True, hint):
            yield option, hint


NUMERIC = [
    pytest.param(slot, name, function, option, id=f"{slot}-{name}-{option}")
    for slot, name, function in functions()
    for option, _ in numbers(function)
    if (name, option) not in FREE
]


@pytest.mark.parametrize(("slot", "name", "function", "option"), NUMERIC)
def test_a_negative_number_is_refused_by_name(slot, name, function, option):
    entry = {"name": name, **NEEDED.get(name, {}), option: -1}
    where = f"{slot}[0]" if slot in LISTED else slot
    told = rf"^{where}.{option} = -1, needs ".replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ValueError, match=told):
        resolve_algorithm("grpo", {slot: [entry] if slot in LISTED else entry})
    columns = dict.fromkeys(data_of(function)[0])
    called = function.__name__.removeprefix("select_")
    with pytest.raises(ValueError, match=f"^{called}: {option} = -1, needs "):
        function(**columns, **{**NEEDED.get(name, {}), option: -1})


def test_many_options_are_numbers():
    assert len(NUMERIC) > 70


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"estimator": {"name": "grpo", "eps": float("inf")}}, "eps = inf, needs 0 or more, and"),
        ({"estimator": {"name": "grpo", "ddof": 2}}, r"ddof = 2, needs a value in \[0, 1\]"),
        ({"estimator": {"name": "gpg", "f_norm": 0}}, "f_norm = 0, needs more than 0, and finite"),
        ({"estimator": {"name": "mapo", "gamma": 1.5}}, r"gamma = 1.5, needs a value in \[0, 1\]"),
        (
            {"estimator": {"name": "bnpo", "min_value": 2.0}},
            r"^estimator\.max_value = 1\.0, needs more than min_value = 2\.0$",
        ),
        ({"loss": {"name": "ppo_clip", "dual_clip": 1.0}}, "dual_clip = 1.0, needs more than 1"),
        ({"loss": {"name": "cispo", "is_floor": 6}}, "is_cap = 5.0, needs is_floor = 6 or more"),
        ({"loss": {"name": "ppo_ewma", "clip": 1.0}}, r"clip = 1.0, needs a value in \(0, 1\)"),
        ({"regularizers": [{"name": "lp_reg", "kappa": 0}]}, r"kappa = 0, needs a value in \(0, 1"),
        ({"regularizers": [{"name": "lp_reg", "rho": 2}]}, r"rho = 2, needs a value in \[0, 1\]"),
        (
            {"regularizers": [{"name": "clip_cov", "low": 5.0}]},
            r"low, high = 5.0, 5.0: needs low < high",
        ),
        (
            {"regularizers": [{"name": "adaptive_entropy", "coef_min": 2.0}]},
            "coef_max = 1.0, needs coef_min = 2.0 or more",
        ),
        ({"modulators": [{"name": "ace", "cap": 0.5}]}, r"modulators\[0\]\.cap = 0\.5, needs 1 or"),
        ({"modulators": [{"name": "clip", "low": 1.0}]}, "needs low <= 0 <= high"),
        ({"correction": [{"name": "masked", "low": 6.0}]}, "needs 0 <= low <= high"),
        ({"correction": [{"name": "rejected", "kind": "k2", "low": 1}]}, "only a high above 0"),
        ({"correction": [{"name": "rejected", "level": "seq_max"}]}, "takes kind 'k2' or 'k3'"),
        (
            {"shaping": [{"name": "overlong", "max_length": 4, "cache": 5}]},
            r"shaping\[0\]\.cache = 5, needs a value in \[1, max_length 4\]",
        ),
        ({"sample_plan": {"max_rounds": 0}}, r"sample_plan\.max_rounds = 0: needs 1 or more"),
    ],
)
def test_other_bounds_and_options_that_do_not_go_together(slots, message):
    with pytest.raises(ValueError, match=message) as caught:
        resolve_algorithm("grpo", slots)
    assert "\n" not in str(caught.value)


def test_what_is_at_a_bound_is_allowed():
    algorithm = resolve_algorithm(
        "grpo",
        {
            "estimator": {"name": "grpo", "eps": 0},
            "loss": {"name": "cispo", "is_cap": float("inf")},
            "modulators": [{"name": "ace", "alpha": 0, "cap": 1}],
        },
    )
    assert algorithm.estimator.options["eps"] == 0


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_direct_call_names_the_columns_it_lacks(name):
    columns = random_batch([3, 2], 1, 0.0, 1.0, seed=1).columns()
    needed = [column for column in data_of(ESTIMATORS[name])[0] if column != "group_index"]
    with pytest.raises(ValueError, match=f"{name}: group_index is None: pass the group of each"):
        ESTIMATORS[name](**{column: columns[column] for column in needed})
    for lacking in needed:
        given = {c: columns[c] for c in (*needed, "group_index") if c != lacking}
        with pytest.raises(ValueError, match=rf"^{name}: needs \['{lacking}'\], got \["):
            ESTIMATORS[name](**given)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_direct_call_names_an_unknown_option_and_a_wrong_type(name):
    columns = random_batch([3, 2], 1, 0.0, 1.0, seed=1).columns()
    data = {c: columns[c] for c in data_of(ESTIMATORS[name])[0]} | {
        "group_index": torch.tensor([0, 0, 0, 1, 1])
    }
    with pytest.raises(ValueError, match=rf"^{name}: epss = 1: {name} takes \["):
        ESTIMATORS[name](**data, epss=1)
    for option in options_of(ESTIMATORS[name]):
        with pytest.raises(ValueError, match=rf"^{name}: {option} = .* \(dict\): {name} takes"):
            ESTIMATORS[name](**data, **{option: {"a": 1}})
