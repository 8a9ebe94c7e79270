"""`countdown`: reach a target using every number once; the level is the count of numbers.

Every problem is solvable, since its target is the value of a random expression over its numbers.
The answer is that expression, one of several solutions: a verifier must not compare text, but check
that a prediction uses each number exactly once and equals `extras["target"]` exactly.
"""

from random import Random

from rlnorm.trainers.tasks.problem import Draft, Family

LOWEST, HIGHEST = 10, 99
LARGEST_PART = 1000


def draw(rng: Random, level: int) -> Draft:
    """`level` numbers in 1 to 50 and a target in 10 to 99 that is not one of them."""
    while True:
        numbers = [rng.randint(1, 50) for _ in range(level)]
        value, expression = _combine(rng, numbers)
        if LOWEST <= value <= HIGHEST and value not in numbers:
            break
    listed = " ".join(map(str, numbers))
    return Draft(
        question=f"Make {value} from {listed} with + - * / and brackets, each number once.",
        answer=expression,
        demonstration=f"{expression}={value}\n\\boxed{{{expression}}}",
        extras={"numbers": numbers, "target": value},
    )


def _combine(rng: Random, numbers: list[int]) -> tuple[int, str]:
    """A random expression over all numbers, whose intermediate values are positive integers of at
    most LARGEST_PART; value 0 if the draw has others."""
    parts = [(number, str(number)) for number in numbers]
    while len(parts) > 1:
        (a, text_a), (b, text_b) = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        operator = rng.choice("+-*/" if a % b == 0 else "+-*")
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[operator]
        if not 0 < value <= LARGEST_PART:
            return 0, ""
        parts.append((value, f"({text_a}{operator}{text_b})"))
    value, expression = parts[0]
    return value, expression[1:-1]


FAMILY = Family(draw=draw, levels=(3, 4), train_levels=(3,), hard_levels=(4,))
