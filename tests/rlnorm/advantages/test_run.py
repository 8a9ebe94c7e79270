"""Estimators from Python: by name, with one reward or several, and what is refused."""

import pytest
import torch

from rlnorm.advantages import ESTIMATORS, GROUP_RELATIVE, Advantages, estimate, from_matrix
from rlnorm.algorithms import resolve_algorithm
from rlnorm.named_algorithms import ALGORITHMS
from rlnorm.stages import data_of
from rlnorm.testing.batches import random_batch

MATRIX = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
REWARDS, GROUPS = from_matrix(MATRIX)
COLUMNS = random_batch([3, 4, 2], 1, 0.0, 1.0, seed=3).columns()
BOTH_WAYS = r"group_index is None: pass the group of each rollout.*from_matrix\(matrix\)"


def call(name, **changed):
    columns = {**COLUMNS, **changed}
    needed, optional = data_of(ESTIMATORS[name])
    return ESTIMATORS[name](**{n: columns[n] for n in (*needed, *optional) if n in columns})


def same(got, want):
    assert torch.equal(got.values, want.values)
    assert torch.equal(got.keep, want.keep)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_one_reward_may_be_a_vector_and_the_result_is_always_advantages(name):
    table = call(name)
    assert isinstance(table, Advantages)
    assert table.values.dtype == torch.float64
    assert table.keep.shape == (9,)
    per_token = table.values.shape == COLUMNS["rollout_index"].shape
    assert (table.rollout_index is not None) == per_token
    if "rewards" in data_of(ESTIMATORS[name])[0]:
        same(call(name, rewards=COLUMNS["rewards"][:, 0]), table)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_without_groups_the_error_names_both_ways(name):
    with pytest.raises(ValueError, match=f"{name}: {BOTH_WAYS}"):
        call(name, group_index=None)
    with pytest.raises(ValueError, match=f"{name}: {BOTH_WAYS}"):
        estimate(name, COLUMNS["rewards"])


def test_a_matrix_without_groups_is_not_guessed_at():
    with pytest.raises(ValueError, match=f"grpo: {BOTH_WAYS}"):
        ESTIMATORS["grpo"](MATRIX)


def test_names_are_those_of_a_config():
    # means 1/4 and 3/4
    got = estimate("dr_grpo", REWARDS, GROUPS).values.reshape(MATRIX.shape)
    assert got.tolist() == [[0.75, -0.25, -0.25, -0.25], [0.25, 0.25, 0.25, -0.75]]
    # population standard deviation 3 ** 0.5 / 4, in both groups
    scaled = estimate("grpo", REWARDS, GROUPS, eps=0.0, ddof=0).values
    torch.testing.assert_close(scaled[:2], torch.tensor([3**0.5, -1 / 3**0.5]).double())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_named_algorithm_gives_what_a_run_with_it_gets(name):
    data = {n: column for n, column in COLUMNS.items() if n not in ("rewards", "group_index")}
    got = estimate(name, COLUMNS["rewards"], COLUMNS["group_index"], **data)
    same(got, resolve_algorithm(name).advantages(COLUMNS))


def test_modulators_of_an_algorithm_are_applied():
    tokens = {"rollout_index": torch.arange(8), "old_logprobs": torch.zeros(8).double()}
    tokens["ref_logprobs"] = tokens["old_logprobs"]
    # at equal policies a negative advantage weighs 1 + softplus(0) = 1 + log 2
    factor = 1 + torch.tensor(2.0).double().log()
    plain, ace = (estimate(name, REWARDS, GROUPS, **tokens).values for name in ("grpo", "ace"))
    torch.testing.assert_close(ace, plain.where(plain > 0, plain * factor))


def test_estimators_without_an_algorithm_and_turn_rewards():
    same(estimate("grpo_compat", REWARDS, GROUPS), ESTIMATORS["grpo_compat"](REWARDS, GROUPS))
    turns = torch.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
    groups = torch.tensor([0, 0])
    got = estimate("mapo", turn_rewards=turns, group_index=groups, gamma=0.5)
    same(got, ESTIMATORS["mapo"](turns, groups, gamma=0.5))


OWN = """
from rlnorm.advantages import Advantages

def tensor(rewards, group_index, *, factor=1.0):
    return rewards.sum(dim=1) * factor

def kept(rewards, group_index):
    return Advantages(rewards[:, 0], rewards[:, 0] > 0)

def wide(rewards, group_index):
    return rewards[:3, 0]

def shifted(advantages):
    return advantages.values + 1.0

def every(advantages):
    return Advantages(advantages.values + 1.0, advantages.keep | True)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def test_a_function_of_your_own_may_return_a_tensor_or_advantages(own):
    rewards = torch.tensor([1.0, 0.0, float("nan"), 2.0], dtype=torch.float64)
    groups = torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="tensor: returned 1 advantages that are not finite"):
        estimate(f"{own}:tensor", rewards, groups)
    got = estimate(f"{own}:tensor", rewards.nan_to_num(4.0), groups, factor=2.0)
    assert got.values.tolist() == [2, 0, 8, 4]
    assert got.keep.tolist() == [True, True, True, True]
    got = estimate(f"{own}:kept", rewards.nan_to_num(-1.0), groups)
    # one that its estimator leaves out has advantage 0
    assert got.values.tolist() == [1, 0, 0, 2]
    assert got.keep.tolist() == [True, False, False, True]
    with pytest.raises(ValueError, match=r"wide': returned shape \(3,\): needs \[4\]"):
        estimate(f"{own}:wide", rewards.nan_to_num(0.0), groups)


def test_so_may_a_modulator(own):
    algorithm = resolve_algorithm("dr_grpo", {"modulators": [f"{own}:shifted"]})
    got = algorithm.advantages({"rewards": REWARDS[:, None], "group_index": GROUPS})
    assert got.values.tolist() == [1.75, 0.75, 0.75, 0.75, 1.25, 1.25, 1.25, 0.25]
    # what the estimator leaves out stays out
    algorithm = resolve_algorithm("dr_grpo", {"modulators": [f"{own}:every"]})
    alone = {"rewards": torch.ones(2, 1).double(), "group_index": torch.tensor([0, 1])}
    assert algorithm.advantages(alone).keep.tolist() == [False, False]
    assert algorithm.advantages(alone).values.tolist() == [0, 0]


def test_a_rollout_without_a_reward_never_trains():
    rewards = torch.tensor([float("nan"), 0.0, 1.0, 1.0], dtype=torch.float64)
    groups = torch.zeros(4, dtype=torch.long)
    # as a function gdpo counts the missing reward as 0, which is a reward
    assert ESTIMATORS["gdpo"](rewards, groups, missing="zero").keep.all()
    got = estimate("gdpo", rewards, groups, missing="zero")
    assert got.keep.tolist() == [False, True, True, True]
    assert got.values[0] == 0


@pytest.mark.parametrize("name", ["dr_grop", "own_estimator", "GRPO"])
def test_an_unknown_name_is_the_error_of_a_config(name):
    with pytest.raises(ValueError, match="choose from") as config:
        resolve_algorithm(name)
    with pytest.raises(ValueError, match="choose from") as python:
        estimate(name, REWARDS, GROUPS)
    assert str(python.value) == str(config.value)
    assert "\n" not in str(python.value)


def test_unknown_options_and_columns():
    with pytest.raises(ValueError, match=r"estimator\.epss = 1\.0: grpo takes .*'eps'\?"):
        estimate("grpo", REWARDS, GROUPS, epss=1.0)
    with pytest.raises(ValueError, match=r"lenghts: not a data column: .*did you mean 'lengths'"):
        estimate("opo", REWARDS, GROUPS, lenghts=GROUPS)
    with pytest.raises(ValueError, match=r"opo: needs \['lengths'\], got"):
        estimate("opo", REWARDS, GROUPS)
    with pytest.raises(ValueError, match=r"grpo: needs \['rewards'\], got"):
        estimate("grpo", group_index=GROUPS)


def test_group_relative_ones_are_those_that_learn_nothing_from_a_lone_rollout():
    columns = random_batch([1], 1, 1.0, 1.0, seed=1).columns() | {"greedy_rewards": torch.zeros(1)}
    alone = {}
    for name in ESTIMATORS:
        data = {n: column for n, column in columns.items() if n not in ("rewards", "group_index")}
        alone[name] = estimate(name, columns["rewards"], columns["group_index"], **data).keep
    assert {name for name, keep in alone.items() if not keep.any()} == GROUP_RELATIVE


@pytest.mark.parametrize("returned", [[0.0, 0.0], None, 1.0, (torch.zeros(2), None)])
def test_what_is_no_tensor_is_refused_by_the_name_of_the_function(returned):
    def mine(rewards, group_index):
        return returned

    kind, algorithm = type(returned).__name__, resolve_algorithm("grpo", {"estimator": mine})
    columns = {"rewards": torch.tensor([[1.0], [0.0]]), "group_index": torch.tensor([0, 0])}
    with pytest.raises(ValueError, match=rf"estimator.name = .*mine.*: returned {kind}: needs a"):
        algorithm.advantages(columns)


def test_a_modulator_that_returns_no_tensor_is_refused_by_its_name():
    def halved(advantages):
        return advantages.values.tolist()

    algorithm = resolve_algorithm("grpo", {"modulators": [halved]})
    columns = {"rewards": torch.tensor([[1.0], [0.0]]), "group_index": torch.tensor([0, 0])}
    with pytest.raises(ValueError, match=r"modulators.name = .*halved.*: returned list: needs a"):
        algorithm.advantages(columns)
