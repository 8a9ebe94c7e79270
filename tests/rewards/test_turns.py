import math

import pytest

from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.results import ComponentScore, failure
from rlnorm.rewards.turns import turn_rewards
from rlnorm.rewards.types import Status

NAN = math.nan


def score(value, *per_turn):
    return ComponentScore(value, Status.CORRECT, per_turn=per_turn or None)


def same(found, wanted):
    return len(found) == len(wanted) and all(
        tuple(map(repr, a)) == tuple(map(repr, map(float, b)))
        for a, b in zip(found, wanted, strict=True)
    )


def test_components_add_up_by_turn_with_their_weights():
    rows = [
        {"judge": score(6.0, 1.0, 2.0, 3.0), "tone": score(1.0, 0.0, NAN, 4.0)},
        {"judge": score(5.0, 5.0), "tone": score(0.0, NAN)},
    ]
    found = turn_rewards(rows, [3, 1], {"judge": 1.0, "tone": 0.5})
    assert same(found, [(1.0, 2.0, 5.0), (5.0,)])


def test_one_number_for_the_whole_counts_at_the_last_turn():
    rows = [{"judge": score(3.0, 1.0, 2.0), "format": score(1.0)}]
    assert same(turn_rewards(rows, [2], {"judge": 1.0, "format": 0.1}), [(1.0, 2.1)])
    # a judge with nothing to say of a rollout's turns gives its score for the whole
    rows += [{"judge": score(7.0), "format": score(0.0)}]
    found = turn_rewards(rows, [2, 3], {"judge": 1.0, "format": 0.1})
    assert same(found[1:], [(NAN, NAN, 7.0)])


def test_what_failed_is_missing_not_zero():
    rows = [
        {"judge": score(3.0, 1.0, 2.0), "code": failure(Status.TIMEOUT, "slow")},
        {"judge": score(3.0, 1.0, 2.0), "code": score(1.0)},
    ]
    found = turn_rewards(rows, [2, 2], {"judge": 1.0, "code": 1.0})
    assert same(found, [(NAN, NAN), (1.0, 3.0)])


def test_nothing_where_no_component_tells_turns_apart():
    assert turn_rewards([{"a": score(1.0)}, {"a": score(2.0, NAN)}], [1, 1], {"a": 1.0}) == [(), ()]


def test_another_number_of_scores_than_turns_is_an_error():
    with pytest.raises(RewardError, match="'judge': 2 per-turn scores for a rollout of 3 turns"):
        turn_rewards([{"judge": score(1.0, 0.0, 1.0)}], [3], {"judge": 1.0})
