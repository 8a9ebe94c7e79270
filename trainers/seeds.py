"""One seed for a run; every random choice is a pure function of it and of what it is for."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from rlnorm.types import Prompt

T = TypeVar("T")


def derive_seed(seed: int, *parts: object) -> int:
    """A seed in 0 .. 2**63 - 1 for one purpose. Example: derive_seed(0, 12, "chain-7", 3)."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def shuffled(items: Sequence[T], seed: int, *parts: object) -> list[T]:
    """A seeded permutation."""
    out = list(items)
    random.Random(derive_seed(seed, *parts)).shuffle(out)
    return out


def draw_labels(prompts: Sequence[Prompt], step: int, draws: Counter[str]) -> list[str]:
    """What seeds and ids of each draw begin with: "12" for the first draw of a prompt in step 12,
    "12.1" for the second, as where an epoch ends within the step or prompts are resampled.

    draws: how often each prompt was drawn in the step so far; counted on here.
    """
    labels = []
    for prompt in prompts:
        again = draws[prompt.prompt_id]
        labels.append(f"{step}.{again}" if again else str(step))
        draws[prompt.prompt_id] += 1
    return labels
