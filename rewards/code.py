"""Reward for programs: run the code of a completion against tests, each in a fresh sandbox.

A program that is wrong, crashes or passes its own limits fails that test: its verdict is 0. A
sandbox that fails is infra_error, and tests that cannot be read are gold_error: masked, never 0.
Since wall time is shared with everything else on the host, set timeout_s to several times cpu_s.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Any, Literal

from rewards import sandbox
from rewards.code_tests import HARNESS, CallTest, StreamTest, order, parse_tests, passes
from rewards.text import after_reasoning
from rewards.types import Sample, Score, Status

_FENCE_NAMES = ("", "python", "python3", "py")


def extract_code(completion: str) -> str | None:
    """The last closed ``` block after the reasoning that is Python or unnamed; None without one."""
    answer = after_reasoning(completion)
    found: str | None = None
    opened: list[str] | None = None
    wanted = False
    for line in (answer or "").splitlines():
        mark = line.strip()
        if opened is None and mark.startswith("```"):
            opened, wanted = [], mark[3:].strip().lower() in _FENCE_NAMES
        elif opened is not None and mark == "```":
            found = "\n".join(opened) + "\n" if wanted else found
            opened = None
        elif opened is not None:
            opened.append(line)
    return found


class CodeReward:
    """1 for a program that passes its tests (`sample.gold`, forms in code_tests.parse_tests).

    aggregate: "fraction" of tests passed, or "all": 1 only if every one does; the first failure
    then ends the sample. level: of the sandbox; 2 needs the url of a server. tolerance: relative
    and absolute, for numbers; 0 is exact.
    """

    name = "code"
    components = ("code",)
    kind: Literal["cpu", "io"] = "io"

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
        if aggregate not in ("fraction", "all"):
            raise ValueError(f"code.aggregate = {aggregate!r}: allowed 'all', 'fraction'")
        if level not in (0, 1, 2):
            raise ValueError(f"code.level = {level!r}: allowed 0, 1, 2")
        if (level == 2) != (url is not None):
            raise ValueError(f"code.url = {url!r} with level {level}: exactly level 2 needs one")
        if level == 1:
            sandbox.probe()
        self._remote = None if url is None else sandbox.RemoteSandbox(url)
        self._aggregate, self._level, self._tolerance = aggregate, level, tolerance
        self._limits = sandbox.Limits(
            wall_s=timeout_s, cpu_s=cpu_s, memory_bytes=memory_mb << 20, output_bytes=4 << 20
        )
        self._max_tests = max_tests
        self._concurrency = concurrency or len(os.sched_getaffinity(0))

    async def score(self, batch: Sequence[Sample]) -> list[Score]:
        """One Score a sample, in order; `concurrency` programs run at a time."""
        slots = asyncio.Semaphore(self._concurrency)

        async def one(sample: Sample) -> Score:
            async with slots:
                return await self._score(sample)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(sample)) for sample in batch]
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """Close the connections of level 2."""
        if self._remote is not None:
            await self._remote.close()

    async def _score(self, sample: Sample) -> Score:
        began = time.monotonic()

        def verdict(value: float, status: Status, **detail: Any) -> Score:
            seconds = time.monotonic() - began
            return Score(components={"code": value}, status=status, seconds=seconds, detail=detail)

        try:
            tests = parse_tests(sample.gold)[: self._max_tests]
            stdins = [order(t) if isinstance(t, CallTest) else t.stdin for t in tests]
        except ValueError as error:
            return verdict(float("nan"), Status.GOLD_ERROR, error=str(error))
        code = extract_code(sample.completion)
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
        """How one test ended: passed, wrong, or the sandbox's word for it."""
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
