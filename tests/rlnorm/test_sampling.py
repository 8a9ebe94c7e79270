import pytest
import torch

from rlnorm.sampling import SamplePlan, informative_groups


def test_a_pivot_is_sampled_on_top_a_greedy_rollout_apart():
    assert SamplePlan().samples(4) == 4
    assert SamplePlan(extra_kind="pivot").samples(4) == 5
    assert SamplePlan(extra_kind="greedy").samples(4) == 4


def test_groups_are_informative_when_their_rewards_differ():
    rewards = torch.tensor([0.1, 0.1, 0.1, 1.0, 0.0, 5.0, float("nan"), 1.0])[:, None]
    groups = torch.tensor([3, 3, 3, 1, 1, 2, 4, 4])
    # in order of label: 1 differs, 2 alone, 3 equal, 4 has one reward left
    assert informative_groups(rewards, groups).tolist() == [True, False, False, False]
    kept = informative_groups(rewards, groups, keep_singletons=True)
    assert kept.tolist() == [True, True, False, True]


def test_an_empty_plan_is_refused():
    with pytest.raises(ValueError, match=r"sample_plan\.max_rounds = 0: needs 1 or more"):
        SamplePlan(max_rounds=0)
