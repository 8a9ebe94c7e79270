"""`add`: long addition with the carries written out; the level is the number of digits.

    47+85 ?      7+5=12
                 4+8+1=13
                 \\boxed{132}

One line per column from the right; the third summand is the carry of the line before.
"""

from random import Random

from rlnorm.trainers.tasks.problem import Draft, Family


def draw(rng: Random, level: int) -> Draft:
    """Two numbers of `level` digits each, uniformly."""
    low, high = 10 ** (level - 1), 10**level - 1
    a, b = rng.randint(low, high), rng.randint(low, high)
    lines, carry = [], 0
    for digit_a, digit_b in zip(reversed(str(a)), reversed(str(b)), strict=True):
        column = int(digit_a) + int(digit_b) + carry
        lines.append(f"{digit_a}+{digit_b}{f'+{carry}' if carry else ''}={column}")
        carry = column // 10
    return Draft(
        question=f"{a}+{b} ?",
        answer=str(a + b),
        demonstration="\n".join([*lines, f"\\boxed{{{a + b}}}"]),
    )


FAMILY = Family(draw=draw, levels=(2, 3, 4), train_levels=(2, 3), hard_levels=(4,))
