import asyncio
import math

import pytest

from rlnorm.rewards import InputError, Sample, Status, load_rewards
from rlnorm.rewards.math.countdown import check_countdown, evaluate
from rlnorm.rewards.math.symbolic import allowed

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


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (r"\int_0^1 x dx", True),
        (r"\sum_{k=1}^{100} k", True),
        (r"\sum_{k=1}^{1000000} k", False),
        (r"\input{/etc/passwd}", False),
        ("__import__('os')", False),
        (r"\int_0^1 x^{x^{x^{x}}} dx", False),
        ("lambda: 1", False),
        ("x" * 401, False),
    ],
)
def test_allow_list_of_layer_four(text, ok):
    assert allowed(text) == ok


@pytest.mark.parametrize(
    ("answer", "correct"),
    [
        (r"\boxed{(8 + 35) + 37}", True),
        (r"\boxed{8 + 35 + 37 = 80}", True),
        (r"<answer>37+(35+8)</answer>", True),
        (r"\boxed{8 + 35 + 37 = 81}", False),
        (r"\boxed{80}", False),
        (r"\boxed{35 + 37 + 8 + 0}", False),
        (r"\boxed{35 + 45}", False),
        (r"\boxed{8 + 35 + 37 + 37 - 37}", False),
        (r"\boxed{-8 + 35 + 37}", False),
        (r"\boxed{8 35 37}", False),
        (r"\boxed{__import__('os')}", False),
        ("8 + 35 + 37", True),
        ("no way", False),
    ],
)
def test_countdown_checks_the_expression(answer, correct):
    assert (check_countdown(answer, [35, 8, 37], 80).status == "correct") == correct


def test_countdown_is_exact():
    # 8 / (3 - 8 / 3) is 24; in floats it is 23.99...
    assert check_countdown(r"\boxed{\frac{8}{3 - 8 \div 3}}", [8, 3, 8, 3], 24).status == "correct"
    assert evaluate("7 - 2 * 3")[0] == 1
    assert check_countdown(r"\boxed{1 / (2 - 2)}", [1, 2, 2], 1).status == "unparsable"
