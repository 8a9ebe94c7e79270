"""Reward for programs: run the code of a completion against tests, each in a fresh sandbox.

A program that is wrong, crashes or exceeds its limits fails that test and scores 0. A sandbox that
fails is infra_error and tests that cannot be read are gold_error: both are masked, never 0.
Since wall time is shared with everything else on the host, set timeout_s to several times cpu_s.
"""

import asyncio
import math
import os
import time
from collections.abc import Sequence
from typing import Any, Literal

from rlnorm.rewards import sandbox
from rlnorm.rewards.code_tests import HARNESS, CallTest, StreamTest, order, parse_tests, passes
from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.outcome import Outcome
from rlnorm.rewards.pool import Pool
from rlnorm.rewards.sandbox.local import SETUP_S
from rlnorm.rewards.text import after_reasoning
from rlnorm.rewards.together import together
from rlnorm.rewards.types import Sample, Score, Status

_FENCE_NAMES = ("", "python", "python3", "py")


def extract_code(completion: str) -> str | None:
    """The last closed ``` block after the reasoning marked as Python, else the last unmarked.

    The indentation of the fence (as in a list) is removed. None if there is no such block.
    """
    found: dict[bool, str] = {}
    opened: list[str] | None = None
    name, margin = "", 0
    for line in (after_reasoning(completion) or "").split("\n"):
        line = line.removesuffix("\r")
        mark = line.strip()
        if opened is None and mark.startswith("```"):
            opened, margin = [], len(line) - len(line.lstrip())
            name = (mark[3:].split() or [""])[0].lower()
        elif opened is not None and mark == "```":
            if name in _FENCE_NAMES:
                found[bool(name)] = "\n".join(opened) + "\n"
            opened = None
        elif opened is not None:
            opened.append(line[min(margin, len(line) - len(line.lstrip())) :])
    return found.get(True, found.get(False))


class CodeReward:
    """1 for a program that passes its tests (`sample.gold`, forms in code_tests.parse_tests).

    aggregate: "fraction" of tests passed, or "all": 1 only if every test passes, stopping at the
    first failure. level: of the sandbox; 2 needs the url of a server. tolerance: relative and
    absolute, for numbers; 0 is exact. Programs run on this machine, `concurrency` at a time, or on
    the workers' machines if the scorer's workers are remote.
    """

    components = ("code",)

    def __init__(
        self,
        *,
        aggregate: Literal["fraction", "all"] = "fraction",
        level: Literal[0, 1, 2] = 1,
        url: str | None = None,
        timeout_s: float = 10.0,
        cpu_s: int = 5,
        memory_mb: int = 512,
        max_tests: int | None = None,
        tolerance: float = 0.0,
        concurrency: int | None = None,
    ) -> None:
        if (level == 2) != (url is not None):
            raise ValueError(f"code.url = {url!r} with level {level}: required by level 2 only")
        if level == 1:
            sandbox.probe()
        self._remote = None if url is None else sandbox.RemoteSandbox(url)
        self._aggregate, self._level, self._tolerance = aggregate, level, tolerance
        self._limits = sandbox.Limits(
            wall_s=timeout_s, cpu_s=cpu_s, memory_bytes=memory_mb << 20, output_bytes=4 << 20
        )
        self._max_tests = max_tests
        self._concurrency = concurrency or len(os.sched_getaffinity(0))
        self._pool: Pool | None = None
        self._call = -1

    def attach(self, pool: Pool) -> None:
        """Called by the scorer: programs run in the pool's workers only if these are remote."""
        self._pool = pool if pool.remote and self._remote is None else None
        if self._pool is not None:
            self._call = self._pool.register("rlnorm.rewards.code:CodeInWorker", self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "aggregate": self._aggregate,
            "level": self._level,
            "timeout_s": self._limits.wall_s,
            "cpu_s": self._limits.cpu_s,
            "memory_mb": self._limits.memory_bytes >> 20,
            "max_tests": self._max_tests,
            "tolerance": self._tolerance,
        }

    async def score(self, batch: Sequence[Sample]) -> list[Score]:
        """One Score per sample, in order."""
        if self._pool is not None and batch:
            # the sandbox enforces the program's limits; this deadline is for a sandbox that hangs
            longest = max(_count(sample.gold, self._max_tests) for sample in batch)
            deadline_s = longest * (2 * SETUP_S + self._limits.wall_s)
            found = await self._pool.map(self._call, batch, deadline_s=deadline_s, chunk=1)
            return [_from_worker(outcome) for outcome in found]
        slots = asyncio.Semaphore(self._concurrency)

        async def one(sample: Sample) -> Score:
            async with slots:
                return await self.score_one(sample)

        return await together([one(sample) for sample in batch])

    @staticmethod
    def check_gold(gold: Any) -> None:
        """Raise ValueError if the gold holds no tests that can be read."""
        for test in parse_tests(gold):
            if isinstance(test, CallTest):
                order(test)

    async def close(self) -> None:
        """Close the connections of level 2."""
        if self._remote is not None:
            await self._remote.close()

    async def score_one(self, sample: Sample) -> Score:
        """The Score of one sample, from a sandbox on this machine or the server of level 2."""
        began = time.monotonic()

        def verdict(value: float, status: Status, **detail: Any) -> Score:
            seconds = time.monotonic() - began
            return Score(components={"code": value}, status=status, seconds=seconds, detail=detail)

        try:
            tests = parse_tests(sample.gold)[: self._max_tests]
            stdins = [order(t) if isinstance(t, CallTest) else t.stdin for t in tests]
        except ValueError as error:
            return verdict(float("nan"), Status.GOLD_ERROR, error=str(error))
        code = extract_code(sample.full_text)
        if code is None:
            return verdict(0.0, Status.NO_ANSWER)
        ended: list[str] = []
        for test, stdin in zip(tests, stdins, strict=True):
            try:
                ended.append(await self._run(code, test, stdin))
            except sandbox.SandboxError as error:
                return verdict(float("nan"), Status.INFRA_ERROR, error=str(error))
            if ended[-1] != "passed" and self._aggregate == "all":
                break
        passed = ended.count("passed")
        status = Status.CORRECT if passed == len(tests) else Status.WRONG
        value = passed / len(tests) if self._aggregate == "fraction" else float(status == "correct")
        return verdict(value, status, tests=ended)

    async def _run(self, code: str, test: StreamTest | CallTest, stdin: str) -> str:
        """How one test ended: passed, wrong, or the sandbox's status."""
        files = {"main.py": code}
        if isinstance(test, CallTest):
            files = {"main.py": HARNESS, "solution.py": code}
        if self._remote is not None:
            command = ["python", "main.py"]
            result = await self._remote.run_async(files, command, stdin, self._limits)
        else:
            result = await sandbox.run_async(
                files, sandbox.python_argv("main.py"), stdin, self._limits, self._level
            )
        if result.status is not sandbox.SandboxStatus.OK:
            return str(result.status)
        return "passed" if passes(test, result.stdout, self._tolerance) else "wrong"


class CodeInWorker:
    """Scores one sample of `code` in a worker process; the options are CodeReward's."""

    def __init__(self, **options: Any) -> None:
        self._reward = CodeReward(**options)

    def __call__(self, sample: Sample) -> Score:
        """The Score of one sample."""
        return asyncio.run(self._reward.score_one(sample))


def _count(gold: Any, most: int | None) -> int:
    try:
        return max(1, len(parse_tests(gold)[:most]))
    except ValueError:
        return 1  # the worker reports gold_error


def _from_worker(outcome: Outcome) -> Score:
    if outcome.kind == "ok":
        score: Score = outcome.value
        return score
    if outcome.kind == "error":
        raise RewardError(f"code: {outcome.value}")
    detail = {"error": str(outcome.value)}
    return Score(components={"code": math.nan}, status=Status.INFRA_ERROR, detail=detail)
