"""Finished groups between sampling and learning, each with the version that sampled it."""

import asyncio
from collections import deque

from rlnorm.trainers.errors import RunError
from rlnorm.trainers.scoring import ScoredGroup


class GroupBuffer:
    """A first-in first-out buffer that knows how old its groups are."""

    def __init__(self) -> None:
        self._groups: deque[ScoredGroup] = deque()
        self._arrived = asyncio.Event()

    def put(self, groups: list[ScoredGroup]) -> None:
        """Add finished groups."""
        self._groups.extend(groups)
        self._arrived.set()

    async def take(
        self, count: int, *, version: int, max_staleness: int, deadline_s: float
    ) -> tuple[list[ScoredGroup], int]:
        """count groups at most max_staleness versions old, and how many older ones were dropped."""
        taken: list[ScoredGroup] = []
        dropped = 0
        while len(taken) < count:
            while self._groups and len(taken) < count:
                group = self._groups.popleft()
                if version - group.policy_version > max_staleness:
                    dropped += 1
                else:
                    taken.append(group)
            if len(taken) == count:
                break
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), deadline_s)
            except TimeoutError:
                raise RunError(
                    f"waited {deadline_s:.0f} s for finished groups: have {len(taken)} of {count} "
                    f"at version {version}, dropped {dropped} as too old"
                ) from None
        return taken, dropped
