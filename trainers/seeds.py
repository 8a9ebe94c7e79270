"""One seed for a run; every random choice is a pure function of it and of what it is for."""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

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
