"""Every estimator that combines reward components means the same reward by their weights."""

import pytest
import torch

from rlnorm.advantages import ESTIMATORS
from rlnorm.options import options_of
from rlnorm.slots import DRIVER_COLUMNS
from rlnorm.stages import data_of, resolve_stage
from rlnorm.testing.batches import random_batch

COMBINES = [name for name, f in ESTIMATORS.items() if "rewards" in data_of(f)[0]]
BATCH = random_batch([4, 3, 5], 3, 0.0, 0.25, seed=1)


def estimated(name, rewards, **options):
    columns = {**BATCH.columns(), "rewards": rewards}
    stage = resolve_stage("estimator", {"name": name, **options}, ESTIMATORS, DRIVER_COLUMNS)
    result = stage(columns)
    return result.values, result.keep.tolist()


@pytest.mark.parametrize("name", COMBINES)
def test_it_takes_weights(name):
    assert "weights" in options_of(ESTIMATORS[name])


@pytest.mark.parametrize("name", COMBINES)
def test_a_weight_of_0_is_as_if_the_component_were_not_there(name):
    rewards = BATCH.rewards.clone()
    rewards[:, 1] *= 1000  # out of bounds for those estimators that have some
    rewards[0, 0] = rewards[0, 2] = torch.nan
    got, kept = estimated(name, rewards, weights=[1.0, 0.0, 0.5])
    want, kept_without = estimated(name, rewards[:, [0, 2]], weights=[1.0, 0.5])
    torch.testing.assert_close(got, want, rtol=0, atol=0)
    assert kept == kept_without
    assert not kept[0]


@pytest.mark.parametrize("name", COMBINES)
def test_which_component_has_which_weight_matters(name):
    got, _ = estimated(name, BATCH.rewards, weights=[1.0, 0.5, 0.1])
    turned, _ = estimated(name, BATCH.rewards[:, [2, 1, 0]], weights=[0.1, 0.5, 1.0])
    torch.testing.assert_close(got, turned, rtol=1e-9, atol=1e-9)
    other, _ = estimated(name, BATCH.rewards, weights=[0.1, 0.5, 1.0])
    assert (got - other).abs().max() > 0.01


@pytest.mark.parametrize("name", COMBINES)
def test_weights_that_are_all_0_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: weights = .*: needs one that is not 0"):
        estimated(name, BATCH.rewards, weights=[0.0, 0.0, 0.0])
