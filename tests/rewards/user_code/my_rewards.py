"""Rewards as a user writes them, imported by workers through sys.path."""

import asyncio
import os
import sys
import time

from rlnorm.rewards.types import Score, Status


def length(sample, *, scale=1.0):
    """Characters times scale."""
    return scale * len(sample.completion)


def two(completion, gold):
    """Two components from named fields."""
    return {"same": float(completion == gold), "short": float(len(completion) < 5)}


def wrong_names(sample):
    return {"same": 1.0, "typo": 1.0}


def not_finite(sample):
    return float("nan")


def text(sample):
    return "1.0"


def enormous(sample):
    return -1e300


def forgets_async(sample):
    return asyncio.sleep(0)


def yields(sample):
    yield 1.0


def fails(sample):
    raise KeyError("no such column")


def fails_on_bad(sample):
    if sample.completion == "bad":
        raise ZeroDivisionError("user bug")
    return 1.0


def behaves(sample):
    """Does what the completion says, for the pool's tests."""
    if sample.completion == "hang":
        while True:
            pass
    if sample.completion == "die":
        os._exit(3)
    if sample.completion == "interrupt":
        raise KeyboardInterrupt("of its own")
    if sample.completion == "exit":
        sys.exit("gives up")
    if sample.completion == "eat":
        return float(len(bytearray(8 << 30)))
    if sample.completion == "pid":
        return float(os.getpid())
    if sample.completion == "slow":
        time.sleep(0.2)
    return float(len(sample.completion))


def namespace(sample):
    """The number of the network namespace it runs in."""
    return float(os.stat("/proc/self/ns/net").st_ino)


def slow_outside(sample, *, home):
    """Fifty times as slow in any other network namespace as at home."""
    time.sleep(0.004 if os.stat("/proc/self/ns/net").st_ino == home else 0.2)
    return 1.0


def spawns(sample):
    """Starts a grandchild that would outlive a plain kill, then hangs."""
    if os.fork() == 0:
        time.sleep(600)
    with open(sample.meta["file"], "a") as f:
        f.write(f"{os.getpid()} {os.getpgid(0)}\n")
    while True:
        pass


def marks_and_hangs(sample):
    """Says where it runs, then never returns."""
    with open(sample.meta["file"] + ".part", "w") as f:
        f.write(str(os.getpid()))
    os.replace(sample.meta["file"] + ".part", sample.meta["file"])
    while True:
        pass


async def waits(sample):
    return 1.0 if sample.completion else 0.0


def batch_of_lengths(samples):
    return [float(len(s.completion)) for s in samples]


def too_few(samples):
    return [1.0]


def unpicklable(sample):
    return lambda: 1.0


class _Odd(Exception):
    def __init__(self, first, second):
        super().__init__(first)


class _Sick:
    def __reduce__(self):
        raise RuntimeError("sick")


def does_not_unpickle(sample):
    return _Odd(1, 2)


def fails_to_pickle(sample):
    return _Sick()


def relative(sample, scores):
    """Reads another component."""
    return 10.0 * scores["base"].value


class Judge:
    """A whole reward: declares components, scores a batch, gives per-turn numbers."""

    components = ("clear", "kind")

    def __init__(self, *, bonus=0.0):
        self.bonus = bonus

    async def score(self, batch):
        return [
            Score(
                components={"clear": 1.0 + self.bonus, "kind": 0.5},
                status=Status.CORRECT,
                per_turn=[0.25, 0.75],
            )
            for _ in batch
        ]


class Clarity:
    """One component under a name of its own, or under one it did not declare."""

    components = ("clear",)

    def __call__(self, completion):
        return {"clear" if completion else "typo": 0.5}


class Unreachable:
    """An infrastructure failure is a status, not a number."""

    components = ("judge",)

    async def score(self, batch):
        nothing = {"judge": float("nan")}
        return [Score(components=nothing, status=Status.INFRA_ERROR) for _ in batch]


class BrokenImport:
    def __init__(self):
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            raise RuntimeError("only fails inside a worker")

    def __call__(self, sample):
        return 1.0


async def batch_that_takes(samples, *, seconds):
    await asyncio.sleep(seconds)
    return [1.0 for _ in samples]


class ClosesBadly:
    """Whose close fails."""

    async def score(self, batch):
        return [Score(components={"x": 1.0}, status=Status.CORRECT) for _ in batch]

    async def close(self):
        raise RuntimeError("cannot close")
