import asyncio
import math

import pytest

from rlnorm.rewards import InputError, Sample, Status, load_rewards

INTEGRAL = r"\boxed{\int_0^1 2x dx}"


BOMB = r"\boxed{\int_0^1 x^{x^{x}} dx}"


def score(rows, workers=1, **options):
    batch = [
        Sample(id=str(i), group="g", completion=text, gold=gold, meta=meta)
        for i, (text, gold, meta) in enumerate(rows)
    ]

    async def run():
        spec = {"name": "correct", "function": "math", "options": options}
        scorer = load_rewards([spec], workers=workers, on_alarm=lambda alarm: None)
        try:
            return [row["correct"] for row in await scorer.score(batch)]
        finally:
            await scorer.close()

    return asyncio.run(run())


def test_statuses_and_values():
    rows = [
        (r"\boxed{\frac12}", "0.5", {}),
        (r"\boxed{2}", 3, {}),
        ("I have no idea.", "3", {}),
        (r"\boxed{5}", None, {}),
        (r"\boxed{5}", ["4", "5"], {}),
        (r"\boxed{5.2}", "5", {"policy": {"absolute_tolerance": 0.5}}),
    ]
    scores = score(rows)
    assert [s.status for s in scores] == [
        Status.CORRECT, Status.WRONG, Status.NO_ANSWER, Status.GOLD_ERROR, Status.CORRECT,
        Status.CORRECT,
    ]  # fmt: skip
    assert [s.value for s in scores[:3]] == [1.0, 0.0, 0.0]
    assert math.isnan(scores[3].value)
    assert scores[0].detail["layer"] == "structure"


@pytest.mark.parametrize("workers", [1, 2])
def test_what_only_math_verify_reads_goes_to_a_worker(workers):
    rows = [(INTEGRAL, "1", {}), (INTEGRAL, "2", {}), (r"\boxed{1}", "1", {})]
    scores = score(rows, workers, deadline_s=30.0)
    assert [s.status for s in scores] == ["correct", "wrong", "correct"]
    assert [s.detail["layer"] for s in scores] == ["symbolic", "symbolic", "number"]


def test_a_bomb_dies_in_the_worker_and_is_masked():
    scores = score([(BOMB, "1", {}), (r"\boxed{1}", "1", {})], deadline_s=0.5)
    assert [s.status for s in scores] == ["timeout", "correct"]
    assert math.isnan(scores[0].value)


def test_a_wrong_option_is_named():
    with pytest.raises(InputError, match=r"math.policy.unit: .*did you mean 'units'"):
        score([], policy={"unit": "ignore"})
