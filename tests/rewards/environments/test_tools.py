"""The calculator's arithmetic and bounds, the code tool, and the environment that calls them."""

import json

import pytest

from rlnorm.rewards import sandbox
from rlnorm.rewards.environments import EnvError, load_environment
from rlnorm.rewards.environments.tools import Calculator, PythonTool, ToolEnv, ToolProblem


def show_call(name, arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


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
