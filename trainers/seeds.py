"""Seeds: every random choice of a run is a function of the run's seed and of its purpose."""

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
    """The items in a seeded random order."""
    out = list(items)
    random.Random(derive_seed(seed, *parts)).shuffle(out)
    return out


def draw_labels(prompts: Sequence[Prompt], step: int, draws: Counter[str]) -> list[str]:
    """The prefix of seeds and ids for each prompt: "12" for its first draw in step 12, "12.1" for
    its second (an epoch may end within a step, and prompts may be resampled).

    draws: number of draws of each prompt in the step so far; updated here.
    """
    labels = []
    for prompt in prompts:
        again = draws[prompt.prompt_id]
        labels.append(f"{step}.{again}" if again else str(step))
        draws[prompt.prompt_id] += 1
    return labels
