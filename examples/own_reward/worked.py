"""A reward for working that is true: the share of lines `a+b=c` whose arithmetic holds.

The final answer has a reward of its own; this one tells a right answer with sound working from a
lucky one, and pays for every sound line on the way to a wrong one.
"""

import operator
import re

LINE = re.compile(r"^(\d{1,6})([-+*])(\d{1,6})=(-?\d{1,9})$", re.MULTILINE)
SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def true_lines(completion: str, *, at_least: int = 1) -> float:
    """Share of the equations that hold, 0 where there are fewer than `at_least`."""
    equations = LINE.findall(completion)
    if len(equations) < at_least:
        return 0.0
    held = [SIGNS[sign](int(a), int(b)) == int(c) for a, sign, b, c in equations]
    return sum(held) / len(held)
