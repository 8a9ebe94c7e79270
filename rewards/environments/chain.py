r"""`chain`, one step per turn: the first multi-turn task, small enough for a tiny model on a CPU.

    user:      47-2 +1 ?
    assistant: 47-2=45
               45+1=46
               \boxed{46}
    user:      *2 -8 ?
    assistant: 46*2=92 ...

Each turn's reward is 1 for the right running value, else 0. The running value is not repeated, so a
wrong turn also costs the turns after it: the case that turn-level estimators are for.
Start 2 to 60, operands 1 to 9, factors 2 and 3; every running value stays in 1 to 99.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlnorm.rewards.environments.types import Message, Step
from rlnorm.rewards.text import after_reasoning, find_boxes

_LAST_LINE = re.compile(r"(?:\d{1,4}[-+*]\d{1,4}=)?(\d{1,4})")


@dataclass(frozen=True, slots=True)
class ChainProblem:
    """values[i] is the running value after operation i; operations[0] is applied to start."""

    start: int
    operations: tuple[str, ...]
    values: tuple[int, ...]

    @property
    def question(self) -> str:
        """The complete task on one line, like "47-2 +1 *2"."""
        return f"{self.start}{' '.join(self.operations)}"

    @property
    def is_held_out(self) -> bool:
        """True for one problem in ten, by a hash of its text: independent of seed and length."""
        return hashlib.sha256(self.question.encode()).digest()[0] % 10 == 0


def _draw(rng: random.Random, turns: int) -> ChainProblem:
    start = value = rng.randint(2, 60)
    operations: list[str] = []
    values: list[int] = []
    while len(operations) < turns:
        operator = rng.choice("+-*")
        operand = rng.randint(2, 3) if operator == "*" else rng.randint(1, 9)
        result = {"+": value + operand, "-": value - operand, "*": value * operand}[operator]
        if 1 <= result <= 99:
            value = result
            operations.append(f"{operator}{operand}")
            values.append(value)
    return ChainProblem(start, tuple(operations), tuple(values))


def draw_problem(
    seed: int, turns: Sequence[int] = (3, 4, 5), split: Literal["train", "test"] = "train"
) -> ChainProblem:
    """The problem of a seed; train and test never share one."""
    rng = random.Random(f"chain/{split}/{seed}")
    while True:
        problem = _draw(rng, rng.choice(list(turns)))
        if problem.is_held_out == (split == "test"):
            return problem


def read_value(text: str) -> int | None:
    """The last box after the reasoning, or a last line that is a number or `a+b=number`; None for
    anything else."""
    text = after_reasoning(text) or ""
    boxes = find_boxes(text)
    lines = text.strip().splitlines()
    answer = boxes[-1].content if boxes else (lines[-1].strip() if lines else None)
    match = _LAST_LINE.fullmatch(answer.strip()) if answer is not None else None
    return int(match.group(1)) if match else None


class ChainEnv:
    """One rollout; `final` is 1 when every turn was right.

    turns: the allowed numbers of turns. operations: how many each turn adds.
    carry: the running value is only in the assistant's own turn; if false the user repeats it,
    which makes the turns independent of one another.
    """

    stop: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        turns: Sequence[int] = (2, 3),
        operations: int = 2,
        carry: bool = True,
        split: Literal["train", "test"] = "train",
    ) -> None:
        if not turns or min(turns) < 1 or operations < 1:
            raise ValueError(
                f"chain.turns = {turns!r}, chain.operations = {operations!r}: need numbers above 0"
            )
        self._lengths = tuple(turn * operations for turn in turns)
        self._operations, self._carry, self._split = operations, carry, split
        self._right: list[bool] = []

    async def reset(self, seed: int) -> list[Message]:
        """The start value and the first operations."""
        self.problem = draw_problem(seed, self._lengths, self._split)
        self._right = []
        return [self._ask()]

    async def step(self, text: str) -> Step:
        """Judge the running value, ask for the next operations."""
        end = (len(self._right) + 1) * self._operations
        expected, value = self.problem.values[end - 1], read_value(text)
        self._right.append(value == expected)
        info: dict[str, object] = {"expected": expected, "value": value}
        reward = float(self._right[-1])
        if end < len(self.problem.operations):
            return Step(messages=[self._ask()], reward=reward, info=info)
        info["final"] = float(all(self._right))
        return Step(reward=reward, done=True, info=info)

    def _ask(self) -> Message:
        begin = len(self._right) * self._operations
        return _ask(self.problem, begin, self._operations, self._carry)


def _ask(problem: ChainProblem, begin: int, count: int, carry: bool) -> Message:
    """The user's message with `count` operations from `begin` on."""
    shown = " ".join(problem.operations[begin : begin + count])
    if begin == 0:
        shown = f"{problem.start}{shown}"
    elif not carry:
        shown = f"{problem.values[begin - 1]}{shown}"
    return {"role": "user", "content": f"{shown} ?"}


def _answer(problem: ChainProblem, begin: int, count: int, worked: bool) -> Message:
    before = (problem.start, *problem.values)
    lines = [
        f"{before[i]}{problem.operations[i]}={before[i + 1]}" for i in range(begin, begin + count)
    ]
    box = f"\\boxed{{{before[begin + count]}}}"
    return {"role": "assistant", "content": "\n".join([*lines, box] if worked else [box])}


def demonstrations(
    count: int,
    *,
    seed: int = 0,
    turns: Sequence[int] = (2, 3),
    operations: int = 2,
    carry: bool = True,
    worked: float = 0.7,
) -> list[list[Message]]:
    """Correct conversations from the train split, for a warm start: a model that never saw a second
    turn does not answer one.

    worked: the share of turns that show their working; the rest state only the value, which a small
    model cannot learn to compute and reinforcement learning then removes.
    """
    rng = random.Random(f"chain/demonstrations/{seed}")
    conversations = []
    for _ in range(count):
        lengths = [turn * operations for turn in turns]
        problem = draw_problem(rng.getrandbits(60), lengths, "train")
        messages: list[Message] = []
        for begin in range(0, len(problem.operations), operations):
            messages.append(_ask(problem, begin, operations, carry))
            messages.append(_answer(problem, begin, operations, rng.random() < worked))
        conversations.append(messages)
    return conversations
