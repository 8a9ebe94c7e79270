"""Reward workers on the nodes of the engines: one actor per node, each with its own WorkerPool.

    map() -> parts -> a node with a free slot takes the next part -> outcomes, in order

A slow node takes fewer parts and so does not delay the others. A node whose actor dies or misses
its deadline is not used again in the run. Its part goes to another node once; if that fails too, it
is a RewardError.
"""

import asyncio
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.outcome import Batch, Outcome, not_run
from rlnorm.rewards.pool import WorkerPool
from rlnorm.rewards.registry import default_workers
from rlnorm.rewards.spec import DEFAULT_MEMORY_MB
from rlnorm.rewards.worker import load_function
from rlnorm.trainers.cluster.ray import ClusterError, EventHandler, Host, wait_for

SLOTS = 2
"""Parts assigned to a node at once, so that its workers never wait for the next."""
RESTART_S = 15.0
"""Time allowed for replacing a worker that was killed at an item's deadline."""
CLOSE_S = 30.0


class NodeWorkers:
    """Runs in the actor: the worker pool of one node."""

    def __init__(self, definitions: bytes, workers: int | None, memory_mb: int) -> None:
        """definitions: pickled pairs of function and options, as given to `register`.

        workers: None for one per core available to this process, at most 8. memory_mb: of each.
        Raises InputError when a function cannot be imported on this node.
        """
        count = default_workers() if workers is None else workers
        self._pool = WorkerPool(count, memory_mb=memory_mb)
        for function, options in pickle.loads(definitions):
            load_function(function)
            self._pool.register(function, options)

    def workers(self) -> int:
        """Maximum number of worker processes of this node."""
        return self._pool.workers

    def pids(self) -> list[int]:
        """Process ids of the live workers, for diagnosis."""
        return self._pool.pids()

    def map(
        self, call: int, items: Sequence[Any], limits: Mapping[str, Any]
    ) -> list[Outcome] | str:
        """Outcomes in order, or the text of the RewardError that prevented them.

        limits: keywords of `WorkerPool.map`.
        """
        try:
            return asyncio.run(self._pool.map(call, items, **limits))
        except RewardError as error:
            return str(error)

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


@dataclass(eq=False, slots=True)
class _Node:
    address: str
    actor: Any
    workers: int = 0
    owed_s: float = 0.0
    """Longest time that the parts it is working on may take."""
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SLOTS))


@dataclass(eq=False, slots=True)
class _Work:
    """One call of `map`."""

    batch: Batch
    """Counts the items that were late and in time, on all nodes."""
    items: Sequence[Any]
    chunk: int
    """Items per worker."""
    taken: int = 0
    outcomes: dict[int, list[Outcome]] = field(default_factory=dict)
    """By the index of a part's first item."""


class NodePools:
    """A `rlnorm.rewards.pool.Pool` for one event loop. Register all functions, then `start`."""

    remote = True

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        workers: int | None = None,
        deadline_s: float = 2.0,
        memory_mb: int = DEFAULT_MEMORY_MB,
        start_deadline_s: float = 300.0,
        on_event: EventHandler = lambda event: None,
    ) -> None:
        """workers: of each node, None for one per core and at most 8. deadline_s: of one item,
        unless `map` is given one. memory_mb: of a worker. start_deadline_s: of an actor, and of a
        part in addition to its items' deadlines, since workers load the rewards first. on_event:
        called for lost nodes.
        """
        self.items_by_node: dict[str, int] = dict.fromkeys(addresses, 0)
        """Number of items scored so far, by node."""
        self._workers, self._deadline_s, self._memory_mb = workers, deadline_s, memory_mb
        self._start_deadline_s, self._on_event = start_deadline_s, on_event
        self._definitions: list[tuple[str | bytes, dict[str, Any]]] = []
        self._nodes: list[_Node] = []
        self._gone = "the node pools are not started"

    @property
    def workers_by_node(self) -> dict[str, int]:
        """Maximum number of worker processes, by node."""
        return {node.address: node.workers for node in self._nodes}

    @property
    def actors(self) -> dict[str, Any]:
        """Actor handles, by node."""
        return {node.address: node.actor for node in self._nodes}

    def register(self, function: str | bytes, options: Mapping[str, Any] | None = None) -> int:
        """See `Pool.register`; the nodes import the function when they start."""
        self._definitions.append((function, dict(options or {})))
        return len(self._definitions) - 1

    async def start(self) -> None:
        """Start one actor per node. Raises ClusterError with node and cause if one does not start
        or cannot import a registered function."""
        import ray

        alive = {n["NodeManagerAddress"]: n["NodeID"] for n in ray.nodes() if n["Alive"]}
        if missing := [address for address in self.items_by_node if address not in alive]:
            raise ClusterError(f"rewards: no live node {', '.join(missing)}")
        options = {
            "definitions": pickle.dumps(self._definitions),
            "workers": self._workers,
            "memory_mb": self._memory_mb,
        }
        self._nodes = [_Node(a, _spawn(alive[a], options)) for a in self.items_by_node]
        await asyncio.gather(*(self._load(node) for node in self._nodes))

    async def map(
        self,
        call: int,
        items: Sequence[Any],
        *,
        deadline_s: float | None = None,
        first_s: float = 0.0,
        give_up_after: int | None = None,
        chunk: int = 32,
    ) -> list[Outcome]:
        """See `Pool.map`. Also raises RewardError if no node is left or a part fails twice."""
        every = sum(self.workers_by_node.values())
        size = max(1, min(chunk, -(-len(items) // max(1, 4 * every))))
        deadline = self._deadline_s if deadline_s is None else deadline_s
        work = _Work(Batch(call, deadline, first_s, give_up_after), items, size)
        # every node takes a first part before any node takes a second
        turns = [node for _ in range(SLOTS) for node in self._nodes]
        tasks = [asyncio.ensure_future(self._pull(node, work)) for node in turns]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        if work.taken < len(items):
            raise RewardError(f"no node is left to run rewards: {self._gone}")
        return [outcome for start in sorted(work.outcomes) for outcome in work.outcomes[start]]

    def close(self) -> None:
        """End the workers and the actors within CLOSE_S seconds. May be called twice."""
        import ray

        nodes, self._nodes = self._nodes, []
        self._gone = "the node pools are closed"
        if nodes and ray.is_initialized():
            ended = [node.actor.call.remote("close") for node in nodes]
            ray.wait(ended, num_returns=len(ended), timeout=CLOSE_S)
            for node in nodes:
                ray.kill(node.actor)

    async def _load(self, node: _Node) -> None:
        async def ask(ref: Any) -> Any:
            what = f"rewards on node {node.address}"
            return (await wait_for([ref], deadline_s=self._start_deadline_s, what=what))[0]

        await ask(node.actor.build.remote())
        node.workers = await ask(node.actor.call.remote("workers"))

    async def _pull(self, node: _Node, work: _Work) -> None:
        """Process parts until none is left or the node is lost."""
        while True:
            async with node.slots:
                start = work.taken
                if node not in self._nodes or start >= len(work.items):
                    return
                work.taken += work.chunk * node.workers
                part = list(work.items[start : work.taken])
                if work.batch.hopeless:
                    work.outcomes[start] = [not_run()] * len(part)
                    continue
                work.outcomes[start] = await self._settle(node, work, part)
                for outcome in work.outcomes[start]:
                    work.batch.count(outcome)

    async def _settle(self, node: _Node, work: _Work, part: list[Any]) -> list[Outcome]:
        """The outcomes of one part, from this node or, if it is lost, from another."""
        try:
            return await self._ask(node, work, part)
        except ClusterError as first:
            self._drop(node, first)
            if not self._nodes:
                raise RewardError(f"no node is left to run rewards: {first}") from first
            other = min(self._nodes, key=lambda n: n.owed_s)
            try:
                return await self._ask(other, work, part)
            except ClusterError as second:
                self._drop(other, second)
                raise RewardError(f"{len(part)} samples lost twice: {first}; {second}") from second

    async def _ask(self, node: _Node, work: _Work, part: list[Any]) -> list[Outcome]:
        batch = work.batch
        # the first item of a worker has its longer limit, and again after a kill at the deadline
        cost = -(-len(part) // node.workers) * (batch.deadline_s + RESTART_S) + batch.first_s
        limits = {
            "deadline_s": batch.deadline_s,
            "first_s": batch.first_s,
            "give_up_after": batch.give_up_after,
            "chunk": work.chunk,
        }
        what = f"rewards on node {node.address}"
        node.owed_s += cost
        try:
            ref = node.actor.call.remote("map", batch.call, part, limits)
            limit = self._start_deadline_s + node.owed_s
            [answer] = await wait_for([ref], deadline_s=limit, what=what)
        finally:
            node.owed_s -= cost
        if isinstance(answer, str):
            raise RewardError(f"{what}: {answer}")
        self.items_by_node[node.address] += len(part)
        return list(answer)

    def _drop(self, node: _Node, cause: ClusterError) -> None:
        import ray

        if node in self._nodes:
            self._nodes.remove(node)
            self._gone = str(cause)
            ray.kill(node.actor)
            self._on_event({"event": "reward_node_lost", "node": node.address, "cause": str(cause)})


def own_address() -> str:
    """The address of this process's Ray node."""
    import ray

    own = ray.get_runtime_context().get_node_id()
    return next(str(n["NodeManagerAddress"]) for n in ray.nodes() if n["NodeID"] == own)


def _spawn(node_id: str, options: Mapping[str, Any]) -> Any:
    """An actor on this node that uses none of the resources reserved by engines and ranks."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    # in addition to the slots: room for parts that another node lost, and for close
    made = ray.remote(Host).options(
        num_cpus=0, scheduling_strategy=strategy, max_concurrency=2 * SLOTS + 2
    )
    return made.remote("rlnorm.trainers.cluster.reward_nodes:NodeWorkers", dict(options))
