"""ToolRL's rewards with numbers worked by hand, and the replies that break parsers."""

import json
import math

import pytest

from rlnorm.rewards.tool_calls import ToolCall, ToolCallReward, correctness, has_format, parse_calls
from rlnorm.rewards.types import Status

ADD = {"name": "add", "parameters": {"a": 1, "b": 2}}
WEATHER = {"name": "weather", "parameters": {"city": "Oslo"}}
CALL = (
    '<think>x</think>\n<tool_call>\n{"name": "add", "parameters": {"a": 1, "b": 2}}\n</tool_call>'
)


def call(name, **parameters):
    return ToolCall(name, parameters)


def test_exact_match_in_any_order_is_the_maximum():
    reference = [call("add", a=1, b=2), call("weather", city="Oslo")]
    assert correctness(reference, reference[::-1]) == 3.0


def test_one_wrong_value():
    # names 1/1, parameter names 2/2, one equal value: 3 of 1 + (1 + 2) = 4 -> 6 * 3/4 - 3
    assert correctness([call("add", a=1, b=2)], [call("add", a=1, b=9)]) == 1.5


def test_a_missing_and_a_superfluous_parameter():
    # names 1, parameter names {a} of {a, b, c} = 1/3, equal values 1: 7/3 of 4 -> 6 * 7/12 - 3
    got = correctness([call("add", a=1, b=2)], [call("add", a=1, c=2)])
    assert got == pytest.approx(0.5)


def test_wrong_name_earns_nothing():
    assert correctness([call("add", a=1)], [call("sub", a=1)]) == -3.0


def test_an_extra_call_costs_through_the_names_alone():
    # names 1/2, parameters 1, value 1: 2.5 of 1 + 2 = 3 -> 6 * 2.5/3 - 3
    assert correctness([call("f", a=1)], [call("f", a=1), call("g")]) == pytest.approx(2.0)


def test_a_call_is_used_once():
    # reference f(1) twice, predicted once: names 1/2, first call 1 + 1, second 0; of 1 + 2 + 2
    assert correctness([call("f", a=1)] * 2, [call("f", a=1)]) == pytest.approx(6 * 2.5 / 5 - 3)


def test_the_best_candidate_is_chosen_not_the_first():
    predicted = [call("f", a=9), call("f", a=1)]
    # names 1/2, best candidate 1 + 1; of 3
    assert correctness([call("f", a=1)], predicted) == pytest.approx(6 * 2.5 / 3 - 3)


def test_values_are_compared_deeply_and_by_type():
    reference = [call("f", x={"k": [1, {"z": None}]})]
    assert correctness(reference, [call("f", x={"k": [1.0, {"z": None}]})]) == 3.0
    # names 1, parameter names 1, values 0: 2 of 3
    assert correctness(reference, [call("f", x={"k": [True, {"z": None}]})]) == pytest.approx(1.0)


def test_no_parameters_at_all():
    assert correctness([call("now")], [call("now")]) == 3.0


def score(completion, gold, **options):
    return ToolCallReward(**options)(completion, gold)


def test_components_stay_apart():
    result = score(CALL, [ADD])
    assert result.components == {"format": 1.0, "correctness": 3.0}
    assert result.status is Status.CORRECT
    no_think = score(CALL.partition("</think>\n")[2], [ADD])
    assert no_think.components == {"format": 0.0, "correctness": 3.0}


@pytest.mark.parametrize(
    "body",
    ["{", "[1, 2]", '"add"', '{"name": 3}', '{"name": "add", "parameters": [1]}', "[" * 100_000,
     '{"name": "add", "parameters": {"a": ' + "9" * 5000 + "}}", '{"parameters": {}}'],
)  # fmt: skip
def test_malformed_calls_are_the_minimum_and_unparsable(body):
    result = score(f"<think></think><tool_call>{body}</tool_call>", [ADD])
    assert (result.components["correctness"], result.status) == (-3.0, Status.UNPARSABLE)


def test_an_unclosed_block_is_malformed():
    assert parse_calls('<tool_call>{"name": "f"}') is None


def test_calls_may_share_a_line_or_span_several():
    text = '<tool_call>{"name": "f"} {"name": "g",\n "arguments": {"a": 1}}\n</tool_call>'
    assert parse_calls(text) == [call("f"), call("g", a=1)]


def test_a_call_in_the_reasoning_is_none():
    text = CALL.replace("</think>\n", "") + "</think>"
    result = score(text, [ADD])
    assert (result.components["correctness"], result.status) == (-3.0, Status.NO_ANSWER)


def test_no_call_where_one_was_due():
    result = score("<think>x</think><response>hi</response>", [ADD])
    assert result.components == {"format": 0.0, "correctness": -3.0}
    assert result.status is Status.NO_ANSWER


def test_needless_calls_are_ignored_or_penalised_on_request():
    plain_reply = "<think>x</think>\n<response>hi</response>"
    assert score(CALL, []).components == {"format": 0.0, "correctness": 0.0}
    assert score(plain_reply, []).components == {"format": 1.0, "correctness": 0.0}
    assert score(CALL, [], needless_calls="penalise").components["correctness"] == -3.0
    assert score(plain_reply, [], needless_calls="penalise").components["correctness"] == 3.0


@pytest.mark.parametrize("table", [[ADD], {"calls": [ADD]}, {"calls": [ADD], "response": None}])
def test_a_gold_may_be_json_text_and_what_is_null_is_not_said(table):
    for gold in (table, json.dumps(table)):
        assert score(CALL, gold).components == {"format": 1.0, "correctness": 3.0}


@pytest.mark.parametrize("gold", [None, 3, [{"name": 1}], {"response": True}, ["add"], "{", '"a"'])
def test_an_unreadable_gold_is_a_gold_error(gold):
    result = score(CALL, gold)
    assert result.status is Status.GOLD_ERROR
    assert math.isnan(result.components["correctness"])


@pytest.mark.parametrize(
    ("text", "calls", "response", "good"),
    [
        ("<think>a</think>\n<response>b</response>", False, True, True),
        ("<think>a</think><tool_call>c</tool_call><response>b</response>", True, True, True),
        ("<think>a</think>", False, False, True),
        ("<think>a</think><response>b</response><tool_call>c</tool_call>", True, True, False),
        ("<think>a</think> said: <response>b</response>", False, True, False),
        ("<think>a</think><response>b</response> more", False, True, False),
        ("<think><think>a</think></think><response>b</response>", False, True, False),
        ("</think><think><response>b</response>", False, True, False),
        ("<response>b</response>", False, True, False),
    ],
)
def test_format(text, calls, response, good):
    assert has_format(text, calls=calls, response=response) is good
