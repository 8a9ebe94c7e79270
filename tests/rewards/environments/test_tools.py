"""The calculator's arithmetic and bounds, the code tool, and the environment that calls them."""

import json
import math
import time
from fractions import Fraction

import pytest

from rlnorm.rewards import sandbox
from rlnorm.rewards.environments import EnvError, load_environment
from rlnorm.rewards.environments.calculator import CalculationError, calculate, show
from rlnorm.rewards.environments.tools import Calculator, PythonTool, ToolEnv, ToolProblem


def show_call(name, arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("8-3-2", 3),
        ("16/4/2", 2),
        ("1/3", Fraction(1, 3)),
        ("0.1+0.2", Fraction(3, 10)),
        ("2**3**2", 512),
        ("-2**2", -4),
        ("2^-2", Fraction(1, 4)),
        ("--3", 3),
        (" .5 * 4 ", 2),
        ("0**0", 1),
        ("(-1)**1000000000001", -1),
        ("0**99999", 0),
    ],
)
def test_values(text, value):
    assert calculate(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "ends too early"),
        ("1+", "ends too early"),
        ("(1", "not closed"),
        ("1)", "unexpected"),
        ("1 2", "unexpected"),
        ("1/0", "division by zero"),
        ("0**-1", "division by zero"),
        ("2**0.5", "whole number"),
        ("9**9**9", "too large"),
        ("9" * 61, "unexpected"),
        ("*".join(["9" * 60] * 6), "too large|characters"),
        ("(" * 100 + "1" + ")" * 100, "nested deeper"),
        ("-" * 200 + "1", "nested deeper"),
        ("1+" * 300 + "1", "characters"),
        ("__import__('os')", "unexpected"),
        ("abs(1)", "unexpected"),
        ("1e9", "unexpected"),
        ("1,000", "unexpected"),
    ],
)
def test_refusals_are_quick_and_say_why(text, why):
    began = time.monotonic()
    if why == "too large|characters":
        text = "(" + text + ")**8"
    with pytest.raises(CalculationError, match=why):
        calculate(text)
    assert time.monotonic() - began < 0.5


def test_show():
    assert [show(Fraction(n, d)) for n, d in ((4, 2), (1, 3), (-1, 8))] == [
        "2",
        "0.333333333333",
        "-0.125",
    ]
    assert show(Fraction(10**400 + 1, 3)).startswith("333")


async def test_the_python_tool_runs_in_the_sandbox():
    tool = PythonTool(limits=sandbox.Limits(wall_s=2, cpu_s=1), shown=200)
    assert await tool({"code": "print(6 * 7)"}) == "42"
    assert await tool({"code": "pass"}) == "[no output]"
    assert "ZeroDivisionError" in await tool({"code": "1/0"})
    assert "[timeout]" in await tool({"code": "while True: pass"})
    assert "No such file" in await tool({"code": "open('/etc/shadow')"})
    assert len(await tool({"code": "print('x' * 10000)"})) == 200
    with pytest.raises(ValueError, match="`code` must be a text"):
        await tool({"code": 3})


def env(**options):
    problem = ToolProblem("What is 12*12?", "144")
    return ToolEnv(tools=[Calculator()], problem=lambda seed: problem, **options)


async def test_a_call_is_answered_and_the_answer_judged():
    world = env(call_reward=0.25)
    system, question = await world.reset(0)
    assert "calculator" in system["content"]
    assert question == {"role": "user", "content": "What is 12*12?"}
    step = await world.step("Let me see. " + show_call("calculator", {"expression": "12*12"}))
    assert (step.reward, step.done) == (0.25, False)
    assert step.messages == [{"role": "tool", "content": "144"}]
    done = await world.step("It is \\boxed{144}.")
    assert (done.reward, done.done, done.info) == (1.0, True, {"final": 1.0})


@pytest.mark.parametrize("text", ["144", "\\boxed{143}", "<think>\\boxed{144}", ""])
async def test_wrong_answers(text):
    world = env()
    await world.reset(0)
    step = await world.step(text)
    assert (step.reward, step.done) == (0.0, True)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("<tool_call>{</tool_call>", "error: a tool call is malformed"),
        (show_call("weather", {}), "error: no tool 'weather', only ['calculator']"),
        (show_call("calculator", {}), "error: the argument `expression` must be a text"),
        (show_call("calculator", {"expression": "1/0"}), "error: division by zero"),
    ],
)
async def test_broken_calls_are_told_what_is_wrong(text, reply):
    world = env(call_reward=1.0, tool_role="user")
    await world.reset(0)
    step = await world.step(text)
    assert (step.reward, step.done) == (0.0, False)
    assert step.messages == [{"role": "user", "content": reply}]


async def test_several_calls_and_calls_in_the_reasoning():
    world = env()
    await world.reset(0)
    calls = show_call("calculator", {"expression": "1"}) + show_call(
        "calculator", {"expression": "2"}
    )
    assert [m["content"] for m in (await world.step(calls)).messages] == ["1", "2"]
    assert (await world.step(f"<think>{calls}</think>\\boxed{{144}}")).reward == 1.0


async def test_a_broken_sandbox_is_no_answer(monkeypatch):
    async def broken(*args, **options):
        raise sandbox.SandboxError("no room")

    tool = PythonTool()
    monkeypatch.setattr(sandbox, "run_async", broken)
    with pytest.raises(EnvError, match="no room"):
        await tool({"code": "print(1)"})


async def test_shipped_calculator_problems_have_right_golds():
    make = load_environment("calculator", {"operations": 3, "digits": 2})
    questions = set()
    for seed in range(100):
        world = make()
        _, question = await world.reset(seed)
        expression = question["content"].removeprefix("What is ").removesuffix("?")
        assert str(eval(expression)) == world.problem.answer
        questions.add(expression)
    assert len(questions) == 100
    with pytest.raises(ValueError, match=r"calculator\.operations"):
        load_environment("calculator", {"operations": 0})


def test_numbers_stay_exact():
    assert calculate("99999999999999999999*99999999999999999999") == (10**20 - 1) ** 2
    assert math.isclose(calculate("22/7"), 22 / 7)
