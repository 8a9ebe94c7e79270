"""`chain`: a small sum worked from left to right; the level is the number of operations.

    47-2 +1 *2 ?      47-2=45
                      45+1=46
                      46*2=92
                      \\boxed{92}

There is no precedence: each operation applies to the value so far. The start is 2 to 60, operands
are 1 to 9, factors 2 and 3; every intermediate value is in 1 to 99.
"""

import re
from random import Random

from rlnorm.trainers.tasks.problem import Draft, Family

LOWEST, HIGHEST = 1, 99
_OPERATION = re.compile(r"([-+*])(\d+)")


def draw(rng: Random, level: int) -> Draft:
    """One problem of `level` operations, each of which keeps the value in range."""
    value = rng.randint(2, 60)
    question, lines = str(value), []
    for index in range(level):
        operator, operand = _draw_operation(rng)
        while not LOWEST <= (result := _apply(value, operator, operand)) <= HIGHEST:
            operator, operand = _draw_operation(rng)
        question += f"{' ' if index else ''}{operator}{operand}"
        lines.append(f"{value}{operator}{operand}={result}")
        value = result
    demonstration = "\n".join([*lines, f"\\boxed{{{value}}}"])
    return Draft(question=question + " ?", answer=str(value), demonstration=demonstration)


def solve(question: str) -> list[int]:
    """The intermediate values of a question, its start first, computed from its text."""
    start = re.match(r"\d+", question)
    if start is None:
        raise ValueError(f"chain.solve: question {question!r} does not start with a number")
    values = [int(start.group())]
    for operator, operand in _OPERATION.findall(question[start.end() :]):
        values.append(_apply(values[-1], operator, int(operand)))
    return values


def check(question: str, demonstration: str) -> None:
    """Raise ValueError unless the demonstration is exactly the worked solution of the question."""
    values = solve(question)
    operations = _OPERATION.findall(question)
    lines = [
        f"{before}{operator}{operand}={after}"
        for before, (operator, operand), after in zip(values, operations, values[1:], strict=False)
    ]
    expected = "\n".join([*lines, f"\\boxed{{{values[-1]}}}"])
    if demonstration != expected or not all(LOWEST <= v <= HIGHEST for v in values):
        raise ValueError(
            f"chain.check: {question!r} has solution {demonstration!r}, "
            f"allowed {expected!r} with values in {LOWEST} to {HIGHEST}"
        )


def _draw_operation(rng: Random) -> tuple[str, int]:
    operator = rng.choice("+-*")
    return operator, rng.randint(2, 3) if operator == "*" else rng.randint(1, 9)


def _apply(value: int, operator: str, operand: int) -> int:
    if operator == "*":
        return value * operand
    return value + operand if operator == "+" else value - operand


FAMILY = Family(draw=draw, levels=(2, 3, 4, 5, 6), train_levels=(3, 4, 5), hard_levels=(6,))
