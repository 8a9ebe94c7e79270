"""Tools a policy may call, and the environment that carries the calls out.

A call is `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, one JSON object per line. A
tool answers with text; an invalid call is answered with an error message, and only a tool that
itself fails (EnvError) ends the rollout.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from rlnorm.rewards import sandbox
from rlnorm.rewards.arithmetic import CalculationError, calculate, show
from rlnorm.rewards.environments.types import EnvError, Message, Step
from rlnorm.rewards.text import after_reasoning, find_boxes
from rlnorm.rewards.tool_calls import ToolCall, parse_calls


class Tool(Protocol):
    """One tool."""

    name: str
    description: str
    """What it does and its arguments, for the system message."""

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """The answer. ValueError is shown to the policy as an error, EnvError ends the rollout."""
        ...


class Calculator:
    """Exact arithmetic; see rlnorm.rewards.arithmetic."""

    name = "calculator"
    description = 'calculator: {"expression": text with + - * / ** and parentheses}'

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """The value as text."""
        expression = arguments.get("expression")
        if not isinstance(expression, str):
            raise CalculationError("the argument `expression` must be a text")
        return show(calculate(expression))


class PythonTool:
    """Runs a program in the code sandbox; nothing survives from one call to the next."""

    name = "python"
    description = 'python: {"code": a program; what it prints is the answer}'

    def __init__(
        self, *, limits: sandbox.Limits | None = None, level: Literal[0, 1] = 1, shown: int = 2000
    ) -> None:
        if level == 1:
            sandbox.probe()
        self._limits = limits or sandbox.Limits(wall_s=10.0, cpu_s=5)
        self._level, self._shown = level, shown

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        """The program's output, and its status unless it succeeded."""
        code = arguments.get("code")
        if not isinstance(code, str):
            raise ValueError("the argument `code` must be a text")
        try:
            result = await sandbox.run_async(
                {"main.py": code},
                sandbox.python_argv("main.py"),
                limits=self._limits,
                level=self._level,
            )
        except sandbox.SandboxError as error:
            raise EnvError(str(error)) from error
        text = result.stdout.decode(errors="replace")[: self._shown]
        if result.status is not sandbox.SandboxStatus.OK:
            stderr = result.stderr.decode(errors="replace")[-self._shown // 2 :]
            text += f"\n[{result.status}] {stderr}"
        return text.strip() or "[no output]"


@dataclass(frozen=True, slots=True)
class ToolProblem:
    """A question and what `check` compares the answer with."""

    question: str
    answer: Any


def boxed_equals(text: str, answer: Any) -> float:
    """1 when the last box holds exactly the answer, else 0."""
    boxes = find_boxes(after_reasoning(text) or "")
    return float(bool(boxes) and (boxes[-1].content or "").strip() == str(answer))


class ToolEnv:
    """One rollout with tools. A turn without a call is the answer and ends it.

    problem: seed -> ToolProblem. Rewards: `call_reward` for a turn whose calls all worked, 0 for
    one with a broken call, `check(text, answer)` for the answer; `final` is the answer's.
    """

    stop: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        tools: Sequence[Tool],
        problem: Callable[[int], ToolProblem],
        check: Callable[[str, Any], float] = boxed_equals,
        call_reward: float = 0.0,
        tool_role: str = "tool",
        instruction: str = "Put the final answer in \\boxed{}.",
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._draw, self._check = problem, check
        self._call_reward, self._tool_role = call_reward, tool_role
        described = "\n".join(tool.description for tool in tools)
        self._system = (
            'To use a tool, write <tool_call>{"name": ..., "arguments": {...}}</tool_call> and end '
            f"your turn. Tools:\n{described}\n{instruction}"
        )

    async def reset(self, seed: int) -> list[Message]:
        """System message and question."""
        self.problem = self._draw(seed)
        return [
            {"role": "system", "content": self._system},
            {"role": "user", "content": self.problem.question},
        ]

    async def step(self, text: str) -> Step:
        """Carry out the calls of the turn, or take it as the answer."""
        visible = after_reasoning(text) or ""
        calls = parse_calls(visible)
        if calls == []:
            reward = float(self._check(text, self.problem.answer))
            return Step(reward=reward, done=True, info={"final": reward})
        if calls is None:
            return Step(messages=[self._say("error: a tool call is malformed")], reward=0.0)
        answers = [await self._carry_out(call) for call in calls]
        worked = all(good for good, _ in answers)
        return Step(
            messages=[self._say(answer) for _, answer in answers],
            reward=self._call_reward if worked else 0.0,
            info={"calls": [call.name for call in calls]},
        )

    async def _carry_out(self, call: ToolCall) -> tuple[bool, str]:
        tool = self._tools.get(call.name)
        if tool is None:
            return False, f"error: no tool {call.name!r}, only {sorted(self._tools)}"
        try:
            return True, await tool(call.parameters)
        except ValueError as error:
            return False, f"error: {error}"

    def _say(self, text: str) -> Message:
        return {"role": self._tool_role, "content": text}


def arithmetic_problem(
    seed: int, *, operations: int = 4, digits: int = 3, split: str = "train"
) -> ToolProblem:
    """An expression that is tedious by hand; integers, + - * and parentheses."""
    rng = random.Random(f"arithmetic/{split}/{seed}")
    expression = str(rng.randint(2, 10**digits - 1))
    for _ in range(operations):
        operator, operand = rng.choice("+-*"), rng.randint(2, 10**digits - 1)
        expression = f"({expression}) {operator} {operand}" if rng.random() < 0.5 else (
            f"{expression} {operator} {operand}"
        )  # fmt: skip
    return ToolProblem(f"What is {expression}?", show(calculate(expression)))


class CalculatorTask:
    """`calculator`: arithmetic with a calculator tool; calling it gives a fresh Env."""

    def __init__(
        self,
        *,
        operations: int = 4,
        digits: int = 3,
        split: Literal["train", "test"] = "train",
        call_reward: float = 0.0,
        python: bool = False,
        tool_role: str = "tool",
    ) -> None:
        if not (1 <= operations <= 20 and 1 <= digits <= 9):
            raise ValueError(
                f"calculator.operations = {operations!r}, calculator.digits = {digits!r}: "
                "allowed 1 to 20 and 1 to 9"
            )
        self._problem = {"operations": operations, "digits": digits, "split": split}
        self._tools: list[Tool] = [Calculator(), *([PythonTool()] if python else [])]
        self._call_reward, self._tool_role = call_reward, tool_role

    def __call__(self) -> ToolEnv:
        """A fresh Env; the tools are shared, they keep no state."""
        return ToolEnv(
            tools=self._tools,
            problem=lambda seed: arithmetic_problem(seed, **self._problem),  # type: ignore[arg-type]  # checked above
            call_reward=self._call_reward,
            tool_role=self._tool_role,
        )
