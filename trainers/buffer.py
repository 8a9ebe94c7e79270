"""Scored groups between sampling and learning, each with the version of the weights it is from."""

import asyncio
from collections import deque

from rlnorm.trainers.errors import RunError
from rlnorm.trainers.scoring import ScoredGroup


class GroupBuffer:
    """A first-in first-out buffer that drops groups which are too old."""

    def __init__(self) -> None:
        self._groups: deque[ScoredGroup] = deque()
        self._arrived = asyncio.Event()

    def put(self, groups: list[ScoredGroup]) -> None:
        """Add scored groups."""
        self._groups.extend(groups)
        self._arrived.set()

    async def take(
        self, count: int, *, version: int, max_staleness: int, deadline_s: float
    ) -> tuple[list[ScoredGroup], int]:
        """Wait for count groups at most max_staleness versions old.

        Returns them and how many older groups were dropped. Raises RunError after deadline_s
        seconds without a new group.
        """
        taken: list[ScoredGroup] = []
        dropped = 0
        while len(taken) < count:
            if self._groups:
                group = self._groups.popleft()
                if version - group.policy_version > max_staleness:
                    dropped += 1
                else:
                    taken.append(group)
                continue
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), deadline_s)
            except TimeoutError:
                raise RunError(
                    f"waited {deadline_s:.0f} s for finished groups: have {len(taken)} of {count} "
                    f"at version {version}; {dropped} were too old and dropped"
                ) from None
        return taken, dropped
