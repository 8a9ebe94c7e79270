"""Batches the turns that many rollouts request one by one, for an engine fastest on batches."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from rlnorm.rewards.environments.types import Finish

Turn = tuple[list[int], int, int, tuple[str, ...]]
"""prompt_ids, max_tokens, seed, stop: the arguments of Generate."""
Sampled = tuple[Sequence[int], Sequence[float], Finish]


class Batched:
    """A Generate over `generate_many`: requests that arrive during one batch form the next.

    gather_s: how long the first request of a batch waits for others; a rollout whose tool takes
    longer joins a later batch. An engine's error is raised in every rollout of its batch. Use it on
    one event loop.
    """

    def __init__(
        self,
        generate_many: Callable[[list[Turn]], Awaitable[Sequence[Sampled]]],
        *,
        gather_s: float = 0.002,
    ) -> None:
        self._generate_many, self._gather_s = generate_many, gather_s
        self._waiting: list[tuple[Turn, asyncio.Future[Sampled]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(
        self, prompt_ids: list[int], max_tokens: int, seed: int, stop: tuple[str, ...]
    ) -> Sampled:
        """One turn, sampled together with those of other rollouts."""
        answer: asyncio.Future[Sampled] = asyncio.get_running_loop().create_future()
        self._waiting.append(((prompt_ids, max_tokens, seed, stop), answer))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        await asyncio.sleep(self._gather_s)
        while self._waiting:
            batch = [(turn, answer) for turn, answer in self._waiting if not answer.done()]
            self._waiting = []
            try:
                sampled = await self._generate_many([turn for turn, _ in batch]) if batch else []
                if len(sampled) != len(batch):
                    raise ValueError(f"generate_many: {len(sampled)} answers to {len(batch)} turns")
            except Exception as error:  # handed to the rollouts, which raise it
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), turn in zip(batch, sampled, strict=True):
                if not answer.done():
                    answer.set_result(turn)
