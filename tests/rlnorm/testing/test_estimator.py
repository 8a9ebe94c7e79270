"""Every shipped estimator passes the kit; broken ones fail it, each at the check that is meant."""

import pytest
import torch

from rlnorm.advantages import ESTIMATORS
from rlnorm.testing import check_estimator
from rlnorm.testing.estimator import ConformanceError

CLAIMS = {
    "bnpo": {"coupling": "batch", "shift": "any", "low": 0.0, "high": 1.0},
    "gdpo": {"coupling": "batch", "scale": "invariant"},
    "gpg": {"coupling": "batch", "shift": "any", "scale": "linear"},
    "grpo": {"scale": "invariant"},
    "grpo_process": {"singleton": "any", "scale": "invariant"},
    "mapo": {"singleton": "any", "scale": "invariant"},
    "mapo_certainty": {"shift": "any", "low": 0.0, "high": 1.0},
    "mc_grpo": {},
    "opo": {"scale": "linear"},
    # eps sits beside a sum of weights, so a shift moves the last digits
    "otb": {"shift": "any"},
    "pass_at_k": {"scale": "invariant", "gradient": "any"},
    "reinforce": {"scale": "linear"},
    "reinforce_pp": {"coupling": "batch", "singleton": "any", "scale": "invariant"},
    "reinforce_pp_kl": {"coupling": "batch", "singleton": "any", "scale": "invariant"},
    "remax": {"singleton": "any", "scale": "linear", "gradient": "unbiased"},
    "rloo": {"scale": "linear", "gradient": "unbiased"},
}


def test_all_but_the_imitations_make_claims():
    assert CLAIMS.keys() == ESTIMATORS.keys() - {"grpo_compat"}


@pytest.mark.parametrize("name", CLAIMS)
def test_shipped_estimators_pass(name):
    report = check_estimator(ESTIMATORS[name], **CLAIMS[name])
    assert len(report.passed) == 10
    assert report.gradient.variance > 0


@pytest.mark.parametrize("name", ["gdpo", "grpo"])
def test_with_three_components(name):
    check_estimator(ESTIMATORS[name], columns=3, **CLAIMS[name])


def test_the_bias_of_a_group_mean_baseline_is_one_over_its_size():
    report = check_estimator(ESTIMATORS["reinforce"], scale="linear")
    assert report.gradient.cosine == pytest.approx(1.0)
    assert report.gradient.relative_bias == pytest.approx(1 / 4)


def _mean_of(rewards, group_index):
    labels, index = group_index.unique(return_inverse=True)
    return torch.stack([rewards[group_index == label].nanmean() for label in labels])[index]


def float32_statistics(rewards, group_index):
    narrow = rewards[:, 0].float()
    return (narrow - _mean_of(narrow, group_index)).nan_to_num(0.0)


def mean_over_the_batch(rewards, group_index):
    return (rewards[:, 0] - rewards[:, 0].nanmean()).nan_to_num(0.0)


def groups_by_position(rewards, group_index):
    size = int((group_index == group_index[0]).sum())
    if len(rewards) % size:
        return ESTIMATORS["reinforce"](rewards, group_index)
    blocks = rewards[:, 0].double().view(-1, size)
    return (blocks - blocks.nanmean(dim=1, keepdim=True)).nan_to_num(0.0).view(-1)


def missing_counts_as_zero(rewards, group_index):
    return ESTIMATORS["reinforce"](rewards.nan_to_num(0.0), group_index)


def missing_spoils_its_group(rewards, group_index):
    result = ESTIMATORS["reinforce"](rewards, group_index).values
    spoiled = torch.isin(group_index, group_index[rewards.isnan().any(dim=1)])
    return result.where(~spoiled, torch.nan)


def raw_singletons(rewards, group_index):
    alone = (group_index[:, None] == group_index).sum(dim=1) == 1
    return (
        rewards[:, 0].nan_to_num(0.0).where(alone, ESTIMATORS["grpo"](rewards, group_index).values)
    )


def descent(rewards, group_index):
    return -ESTIMATORS["grpo"](rewards, group_index).values


def writes_into_its_input(rewards, group_index):
    rewards -= 1.0
    return ESTIMATORS["reinforce"](rewards, group_index)


def unscaled(rewards, group_index):
    return ESTIMATORS["reinforce"](rewards, group_index)


@pytest.mark.parametrize(
    ("broken", "claims", "message"),
    [
        (float32_statistics, {"shift": "any"}, "float32 against float64|exact zero on constants"),
        (mean_over_the_batch, {}, "group independence"),
        (groups_by_position, {}, "permutation equivariance|group independence"),
        (missing_counts_as_zero, {}, "masked rows neutral"),
        (missing_spoils_its_group, {}, "masked rows neutral"),
        (raw_singletons, {"shift": "any"}, "singleton rule"),
        (descent, {}, "gradient on a bandit.*\n.*cosine with the true gradient -0.99"),
        (writes_into_its_input, {}, "it changes its argument 'rewards'"),
        (unscaled, {"scale": "invariant"}, "scale behaviour"),
        (unscaled, {"gradient": "unbiased"}, "relative bias 0.25"),
    ],
)
def test_broken_ones_fail_where_they_are_broken(broken, claims, message):
    with pytest.raises(ConformanceError, match=message):
        check_estimator(broken, **claims)


def test_rounding_of_equal_rewards_is_found():
    def rounded(rewards, group_index):
        narrow = rewards[:, 0].float()
        centred = (narrow - _mean_of(narrow, group_index)).double() * 1e-12
        advantages = ESTIMATORS["grpo"](rewards, group_index).values
        return advantages.where(advantages != 0, centred).nan_to_num(0.0)

    with pytest.raises(ConformanceError, match=r"exact zero on constants\n.* rewards of "):
        check_estimator(rounded)


def test_the_counter_example_is_small():
    with pytest.raises(ConformanceError) as caught:
        check_estimator(missing_counts_as_zero)
    rewards = str(caught.value).split("rewards = [[")[1].split("]]")[0]
    assert len(rewards.split("], [")) == 3
