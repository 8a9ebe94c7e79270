"""The alarm for a judge that disagrees with a rule more than before."""

import asyncio
import math

import pytest

from rlnorm.rewards import InputError, Sample, load_rewards
from rlnorm.rewards.agreement import Agreement
from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.types import Status

RIGHT, WRONG = Status.CORRECT, Status.WRONG


def batch(*counts, groups):
    """counts: (rows, the judge's status, the rule's); rows are dealt over the groups in turn."""
    rows = [(judge, rule) for count, judge, rule in counts for _ in range(count)]
    samples = [Sample(id=str(i), group=str(i % groups), completion="") for i in range(len(rows))]
    scores = [
        {"judge": ComponentScore(0.0, judge), "rule": ComponentScore(0.0, rule)}
        for judge, rule in rows
    ]
    return samples, scores


def after_98_rows_with_10_differences():
    agreement = Agreement("judge", "rule")
    first = batch((60, RIGHT, RIGHT), (28, WRONG, WRONG), (10, RIGHT, WRONG), groups=98)
    assert agreement.observe(*first) is None
    assert agreement.last == 10 / 98
    return agreement


def test_the_alarm_begins_where_the_arithmetic_says():
    # p = (10 + 1) / (98 + 2) = 0.11; 25 groups: sqrt(0.11 * 0.89 / 25) = 0.0626;
    # 0.11 + 3 * 0.0626 = 0.2977, which 29 of 100 does not pass and 30 of 100 does
    agreement = after_98_rows_with_10_differences()
    quiet = batch((71, RIGHT, RIGHT), (20, RIGHT, WRONG), (9, WRONG, RIGHT), groups=25)
    assert agreement.observe(*quiet) is None
    agreement = after_98_rows_with_10_differences()
    loud = batch((70, RIGHT, RIGHT), (21, RIGHT, WRONG), (9, WRONG, RIGHT), groups=25)
    assert agreement.observe(*loud) == (
        "differs from rule on 30 of 100 samples, before on 10 of 98; "
        "only judge calls 21 of them correct"
    )
    assert (agreement.rows, agreement.differ, agreement.last) == (198, 40, 0.3)


def test_more_groups_make_it_surer():
    # the same 29 of 100 in 100 groups: 0.11 + 3 * 0.0313 = 0.2039
    agreement = after_98_rows_with_10_differences()
    assert agreement.observe(*batch((71, RIGHT, RIGHT), (29, RIGHT, WRONG), groups=100))


def test_only_rows_that_both_judged_count():
    agreement = after_98_rows_with_10_differences()
    rows = [
        (50, Status.NO_ANSWER, RIGHT),  # the judge was not asked
        (50, Status.INFRA_ERROR, RIGHT),
        (50, RIGHT, Status.TIMEOUT),
        (1, RIGHT, Status.NO_ANSWER),  # the rule saw no answer, and the judge paid
        (3, RIGHT, RIGHT),
    ]
    # 1 of 4 rows in 4 groups: 0.25 < 0.11 + 3 * sqrt(0.11 * 0.89 / 4) = 0.579
    assert agreement.observe(*batch(*rows, groups=4)) is None
    assert (agreement.rows, agreement.differ, agreement.last) == (102, 11, 0.25)
    assert agreement.observe(*batch((9, Status.INFRA_ERROR, RIGHT), groups=9)) is None
    assert math.isnan(agreement.last)


def test_a_first_batch_and_few_rows_say_nothing():
    agreement = Agreement("judge", "rule")
    for _ in range(2):  # 29 rows before the second
        assert agreement.observe(*batch((29, RIGHT, WRONG), groups=29)) is None


def test_a_judge_behind_a_server_raises_it_through_the_scorer(scripted_server, reply):
    """40 samples on which both agree, then 8 of 8 on which the judge pays a wrong answer:
    p = 1 / 42 = 0.024, and 1 > 0.024 + 3 * sqrt(0.024 * 0.976 / 8) = 0.186."""
    body = {"choices": [{"message": {"content": '{"score": 10}'}, "finish_reason": "stop"}]}
    server = scripted_server(lambda *_: reply(body))
    options = {"base_url": server.url, "model": "m", "compare_with": "right"}
    specs = [
        {"name": "helpful", "function": "judge", "options": options},
        {"name": "right", "function": "exact"},
    ]
    alarms = []

    async def run():
        scorer, shares = load_rewards(specs, on_alarm=alarms.append), []
        for count, answer in ((40, "4"), (8, "5")):
            ids = (str(i) for i in range(count))
            await scorer.score([Sample(id=i, group=i, completion=answer, gold="4") for i in ids])
            shares.append(scorer.metrics()["reward/helpful/disagreement"])
        await scorer.close()
        return shares

    assert asyncio.run(run()) == [0.0, 1.0]
    told = [a for a in alarms if a.kind == "disagreement"]
    assert [(a.component, a.message) for a in told] == [
        (
            "helpful",
            "differs from right on 8 of 8 samples, before on 0 of 40; "
            "only helpful calls 8 of them correct",
        )
    ]


def test_it_must_name_another_component():
    options = {"base_url": "http://127.0.0.1:9", "model": "m", "compare_with": "rigth"}
    judge = {"name": "helpful", "function": "judge", "options": options}
    with pytest.raises(InputError, match=r"compare_with = 'rigth'.*did you mean 'right'"):
        load_rewards([judge, {"name": "right", "function": "exact"}])
    with pytest.raises(InputError, match="compare_with = 'helpful'"):
        load_rewards([judge | {"options": options | {"compare_with": "helpful"}}])
