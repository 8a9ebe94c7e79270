"""What every estimator refuses, in plain words. The shape hook is off: users run without it."""

import jaxtyping
import pytest
import torch

from rlnorm.advantages import ESTIMATORS
from rlnorm.stages import data_of
from rlnorm.testing.batches import random_batch

TABLE = {
    name: "turn_rewards" if name in ("mapo", "grpo_process") else "rewards" for name in ESTIMATORS
}


@pytest.fixture(autouse=True)
def _without_shape_hook():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def call(name, **changed):
    columns = {**random_batch([3, 2], 1, 0.0, 1.0, seed=1).columns(), **changed}
    needed, optional = data_of(ESTIMATORS[name])
    return ESTIMATORS[name](**{n: columns[n] for n in (*needed, *optional) if n in columns})


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.zeros(0, 1), r"has shape \(0, 1\), needs \[rollouts, columns\]"),
        (torch.zeros(5, 1, 1), r"has shape \(5, 1, 1\), needs \[rollouts, columns\]"),
        (torch.full((5, 1), float("nan")), "are all NaN: needs at least one"),
        (torch.tensor([[0.0], [1], [float("inf")], [0], [1]]), r"\[2, 0\] = inf: needs a finite"),
        (torch.zeros(4, 1), r"group_index has shape \(5,\), needs \(4,\)"),
    ],
    ids=["empty", "three axes", "all masked", "infinite", "another length"],
)
def test_bad_reward_tables(name, table, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(name, **{TABLE[name]: table})
    assert name in str(caught.value) or "compat" in str(caught.value)


@pytest.mark.parametrize("name", ["otb", "reinforce_pp", "reinforce_pp_kl"])
def test_tokens_of_rollouts_that_are_not_there(name):
    index = random_batch([3, 2], 1, 0.0, 1.0, seed=1).columns()["rollout_index"]
    index[-1] = 5
    with pytest.raises(ValueError, match=r"rollout_index has values in \[0, 5\], needs 0 to 4"):
        call(name, rollout_index=index)


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - {"bnpo", "mapo", "grpo_process"}))
def test_weights_of_the_wrong_length(name):
    rewards, groups = torch.zeros(5, 2), torch.zeros(5, dtype=torch.long)
    columns = {**random_batch([3, 2], 2, 0.0, 1.0, seed=1).columns(), "rewards": rewards}
    data = {n: columns[n] for n in data_of(ESTIMATORS[name])[0]} | {"group_index": groups}
    with pytest.raises(ValueError, match="3 weights for 2 reward columns"):
        ESTIMATORS[name](**data, weights=[1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("name", "rewards", "options", "message"),
    [
        ("bnpo", [2.0, 0.0], {}, r"rewards\[0, 0\] = 2, needs a value in \[min_value, max_value\]"),
        ("bnpo", [0.0, 1.0], {"max_value": 0.0}, "max_value = 0.0, needs more than min_value"),
        ("mapo_certainty", [0.0, 1.5], {}, r"rewards sum to 1.5 in row 1, needs \[0, 1\]"),
        ("gpg", [0.0, 1.0], {"f_norm": 0.0}, "gpg: f_norm = 0.0, needs more than 0"),
        ("gdpo", [0.0, 1.0], {"batch_norm_weighting": "token"}, "lengths is None"),
        ("grpo", [0.0, 1.0], {"weights": [float("inf")]}, "each needs to be finite"),
        ("grpo", [0.0, 1.0], {"missing": "zero"}, r"missing = 'zero' \(str\): grpo takes one of"),
    ],
)
def test_options_out_of_range(name, rewards, options, message):
    table = torch.tensor(rewards)[:, None]
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name](table, torch.zeros(2, dtype=torch.long), **options)


def test_group_labels_are_integers():
    with pytest.raises(ValueError, match=r"group_index is torch.float32, needs integers"):
        ESTIMATORS["grpo"](torch.zeros(2, 1), torch.zeros(2))


def test_discounts_outside_the_unit_interval():
    with pytest.raises(ValueError, match=r"gamma = 1.5, needs a value in \[0, 1\]"):
        ESTIMATORS["mapo"](torch.zeros(2, 2), torch.zeros(2, dtype=torch.long), gamma=1.5)
