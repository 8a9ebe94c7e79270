"""Rewards that do not apply to a row: how they combine, and what is refused before the start."""

import math

import pytest
import torch

from rlnorm.advantages import bnpo, gdpo, grpo
from rlnorm.errors import InputError
from rlnorm.rewards.registry import load_rewards
from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.types import Status
from rlnorm.trainers.scoring import (
    RewardRounds,
    check_reward_rows,
    filled,
    split_baseline,
    weighted_sums,
    why_no_reward,
)
from rlnorm.types import Completion, FinishReason, Prompt, Role, Rollout, ScoredRollouts

NAN = math.nan
STATUS = {"-": "not_applicable", "x": "timeout"}


def rollout(role=Role.TRAIN):
    completion = Completion(
        token_ids=torch.tensor([1]),
        sampler_logprobs=torch.zeros(1),
        policy_mask=torch.tensor([True]),
        turn_index=torch.tensor([0]),
        finish_reason=FinishReason.STOP,
        policy_versions=((0, 0),),
    )
    prompt = Prompt(prompt_id="p", token_ids=(1,))
    return Rollout(rollout_id="r", prompt=prompt, completion=completion, text="", role=role)


def table(rows, groups, roles=None):
    """A cell is a number, "-" (does not apply) or "x" (failed)."""
    values = [[NAN if isinstance(v, str) else v for v in row] for row in rows]
    return ScoredRollouts(
        rollouts=tuple(rollout(role) for role in roles or [Role.TRAIN] * len(rows)),
        rewards=torch.tensor(values, dtype=torch.float64),
        status=tuple(tuple(STATUS.get(v, "correct") for v in row) for row in rows),
        reward_names=("math", "code"),
        group_index=torch.tensor(groups),
        truncated=torch.zeros(len(rows), dtype=torch.bool),
    )


def numbers(tensor):
    return [[None if math.isnan(v) else v for v in row] for row in tensor.tolist()]


def test_a_component_for_other_rows_adds_nothing_to_its_group():
    scored = table([[1, "-"], [0, "-"], ["-", 3], ["-", 1]], [0, 0, 1, 1])
    assert numbers(filled(scored)) == [[1, 0], [0, 0], [0, 3], [0, 1]]
    assert weighted_sums(scored, {"math": 1.0, "code": 0.5}).tolist() == [1, 0, 1.5, 0.5]
    # deviations from the group mean: 1/2 and -1/2; with one unbiased std of 1/sqrt(2), 1/sqrt(2)
    want = [2**-0.5, -(2**-0.5)] * 2
    got = grpo(filled(scored), scored.group_index, weights=[1, 0.5], eps=0.0).values
    assert got.tolist() == pytest.approx(want)


def test_within_a_group_it_becomes_the_mean_of_the_others():
    scored = table([[1, 4], [0, "-"], [0, 0]], [0, 0, 0])
    assert numbers(filled(scored)) == [[1, 4], [0, 2], [0, 0]]
    # code alone gives +2, 0, -2 about its mean of 2: the row without it is at 0
    assert grpo(filled(scored)[:, 1], scored.group_index, scale="none").values.tolist() == [
        2,
        0,
        -2,
    ]


def test_a_failure_stays_missing_and_a_row_without_any_reward_does_too():
    scored = table([[1, "x"], ["-", "-"], [0, 1]], [0, 0, 0])
    assert numbers(filled(scored)) == [[1, None], [None, None], [0, 1]]
    total = weighted_sums(scored, {"math": 1.0, "code": 1.0}).tolist()
    assert [math.isnan(v) for v in total] == [True, True, False]
    # only the last rollout is complete
    assert grpo(filled(scored), scored.group_index, singleton="reward").keep.tolist() == [
        False,
        False,
        True,
    ]


def test_per_component_estimators_normalise_it_where_it_applies():
    scored = table([[1, "-"], [0, "-"], ["-", 3], ["-", 1]], [0, 0, 1, 1])
    # each component z-scored in its own group: 1/sqrt(2) and -1/sqrt(2); no second stage
    got = gdpo(filled(scored), scored.group_index, eps=0.0, batch_norm_weighting="none").values
    assert got.tolist() == pytest.approx([2**-0.5, -(2**-0.5)] * 2)


def test_bnpo_fits_a_component_to_the_groups_that_it_applies_to():
    rows = [[1, "-"], [0, "-"], [1, "-"], [1, "-"], ["-", 1], ["-", 0], ["-", 0], ["-", 0]]
    groups = [0, 0, 1, 1, 2, 2, 3, 3]
    scored = table(rows, groups)
    alone = bnpo(scored.rewards[:4, 0], scored.group_index[:4]).values
    got = bnpo(filled(scored, elsewhere=NAN), scored.group_index).values
    # the mean over two components, one of which does not apply
    assert got[:4].tolist() == pytest.approx((alone / 2).tolist())


def test_a_baseline_to_which_a_reward_does_not_apply_is_at_the_mean_of_its_group():
    roles = [Role.TRAIN, Role.TRAIN, Role.BASELINE]
    scored = table([[1, 4], [0, 2], [1, "-"]], [0, 0, 0], roles)
    kept, baseline = split_baseline(scored, {"math": 1.0, "code": 1.0})
    assert (len(kept.rollouts), baseline.tolist()) == (2, [4.0, 4.0])  # 1 + (4 + 2) / 2


def test_rollouts_without_any_reward_are_counted():
    def score(status):
        return ComponentScore(NAN, status)

    rounds = RewardRounds()
    rows = [{"a": Status.NOT_APPLICABLE, "b": Status.NOT_APPLICABLE}, {"a": Status.TIMEOUT}]
    rounds.add([{name: score(s) for name, s in row.items()} for row in rows], {})
    assert rounds.metrics([])["group/not_applicable"] == 1.0


def prompts(*rows):
    return [
        Prompt(prompt_id=f"p{i}", token_ids=(1,), source=source, level=level, extras=extras)
        for i, (source, level, extras) in enumerate(rows)
    ]


DATA = {
    "data.train": prompts(("math", 1, {"kind": "x"}), ("code", 2, {})),
    "data.eval.held": prompts(("math", 3, {})),
}


def check(**rows):
    specs = [{"name": name, "function": "exact", "rows": table} for name, table in rows.items()]
    check_reward_rows(load_rewards(specs), DATA)


@pytest.mark.parametrize(
    "rows",
    [
        {"a": {}},
        {"a": {"source": "math"}, "b": {"source": ["code"]}},
        {"a": {"level": [1, 3]}, "b": {"source": "code", "level": 2}},
    ],
)
def test_filters_that_cover_every_row(rows):
    check(**rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": {"sorce": "math"}}, r"rewards\.a\.rows\.sorce: no row has it.* 'source'\?"),
        ({"a": {"source": "maths"}}, r"rewards\.a\.rows\.source = 'maths': .* 'math', 'code'"),
        ({"a": {"source": ["math", 5]}}, r"rewards\.a\.rows\.source = 5: the rows hold"),
        ({"a": {"source": "code", "level": 1}}, r"rewards\.a\.rows: no row has all of"),
        ({"a": {"source": "code"}}, r"data\.train: no reward applies to 1 of 2 rows.* p0"),
        ({"a": {"level": [1, 2]}}, r"data\.eval\.held: no reward applies to 1 of 1 rows.* p0"),
        ({"a": {"source": []}}, r"rows\.source = \[\]: needs a text or number, or several"),
        ({"a": {"source": None}}, r"rows\.source = None: needs a text or number"),
        ({"a": ["math"]}, r"rows = \['math'\]: needs a table"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused_by_name(rows, message):
    with pytest.raises(InputError, match=message):
        check(**rows)


def test_what_is_said_when_no_rollout_has_a_reward_names_the_reward_and_the_key():
    assert why_no_reward(table([[1, 0], ["x", 1]], [0, 0])) == ""
    assert why_no_reward(table([["x", 0], ["x", "-"]], [0, 0])) == (
        "no rollout has a reward to train on: reward 'math': 2 of 2 samples are timeout "
        "(rewards.*.deadline_s)"
    )
    assert why_no_reward(table([["-", "-"]], [0])) == (
        "no rollout has a reward to train on: none applies to any of them"
    )
