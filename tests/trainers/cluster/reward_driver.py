"""Run on the head of two nodes by test_two_nodes.py: address and both ips; prints JSON."""

import asyncio
import json
import math
import os
import signal
import sys
import time
from typing import Any

import psutil

from rlnorm.rewards import load_rewards
from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.types import Sample
from rlnorm.trainers.cluster.ray import Cluster, ClusterError, wait_for
from rlnorm.trainers.cluster.reward_nodes import NodePools

SPECS = [
    {"name": "math", "function": "math"},
    {"name": "length", "function": "my_rewards:length", "gate": "math"},
    {"name": "code", "function": "code", "options": {"memory_mb": 256}},
]
PIDS: set[int] = set()


def sample(text: str, gold: Any = "1/2") -> Sample:
    return Sample(id=text, group="g", completion=text, gold=gold)


def batch() -> list[Sample]:
    """Half right, half wrong integrals that only math-verify can tell, and four programs."""
    golds = [f"\\frac{{{n // 2 + 1 + n % 2}}}{{2}}" for n in range(92)]
    integrals = [
        sample(f"\\boxed{{\\int_0^{{1}} {n // 2 + 1} x dx}}", gold) for n, gold in enumerate(golds)
    ]
    tests = [{"stdin": "1 2", "stdout": "3"}]
    right = "```\nprint(sum(map(int, input().split())))\n```"
    return integrals + [sample(code, tests) for code in (right, "```\nprint(4)\n```")] * 2


async def table(scorer: Any) -> list[dict[str, Any]]:
    rows = await scorer.score(batch())
    return [
        {n: ("nan" if math.isnan(s.value) else s.value, str(s.status)) for n, s in row.items()}
        for row in rows
    ]


async def started(ips: list[str], *functions: Any, **options: Any) -> NodePools:
    pools = NodePools(ips, workers=2, **options)
    for function, own in functions:
        pools.register(function, own)
    await pools.start()
    await note_pids(pools)
    return pools


async def note_pids(pools: NodePools) -> dict[str, int]:
    """Remember every process of the pools; returns the actors' by node."""
    actors = {}
    for ip, actor in pools.actors.items():
        refs = [actor.pid.remote(), actor.call.remote("pids")]
        actors[ip], workers = await wait_for(refs, deadline_s=30.0, what="process ids")
        PIDS.update([actors[ip], *workers])
    return actors


async def same_scores(ips: list[str]) -> dict[str, Any]:
    scorer = load_rewards(SPECS, workers=2, deadline_s=20.0, on_alarm=lambda alarm: None)
    here = await table(scorer)
    pools = NodePools(ips)
    scorer.run_on(pools)
    await pools.start()
    over_two = await table(scorer)
    await note_pids(pools)
    report = {"workers": pools.workers_by_node, "items": pools.items_by_node}
    await scorer.close()
    return report | {"scores_here": here, "scores_over_two": over_two}


async def slow_node(ips: list[str]) -> dict[str, Any]:
    home = os.stat("/proc/self/ns/net").st_ino
    pools = await started(ips, ("my_rewards:slow_outside", {"home": home}))
    await pools.map(0, [sample(str(n)) for n in range(4)], chunk=1)  # workers load it
    before = dict(pools.items_by_node)
    began = time.monotonic()
    await pools.map(0, [sample(str(n)) for n in range(128)])
    spent = time.monotonic() - began
    await note_pids(pools)
    pools.close()
    done = {ip: count - before[ip] for ip, count in pools.items_by_node.items()}
    return {"slow_items": done, "slow_s": spent}


async def killed_actor(ips: list[str]) -> dict[str, Any]:
    """Kill the other node's actor with work in hand, then the head's."""
    events: list[Any] = []
    pools = await started(ips, ("my_rewards:behaves", {}), on_event=events.append)
    task = asyncio.create_task(pools.map(0, [sample("slow")] * 40))
    deadline = time.monotonic() + 60.0
    while not all(pools.items_by_node.values()):  # both have done a part and hold others
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    actors = await note_pids(pools)
    os.kill(actors[ips[1]], signal.SIGKILL)
    values = [outcome.value for outcome in await task]
    counts = dict(pools.items_by_node)
    after = [o.value for o in await pools.map(0, [sample("x" * n) for n in (1, 2, 3)])]
    told = list(events)
    os.kill(actors[ips[0]], signal.SIGKILL)
    try:
        await pools.map(0, [sample("a")])
        both_dead = "no error"
    except RewardError as error:
        both_dead = str(error)
    pools.close()
    return {
        "killed_values": values,
        "killed_items": counts,
        "events": told,
        "after_the_death": after,
        "both_dead": both_dead,
    }


async def missing_module(ips: list[str]) -> dict[str, Any]:
    pools = NodePools(ips, workers=1)
    pools.register("only_here:score")
    try:
        await pools.start()
        text = "no error"
    except ClusterError as error:
        text = str(error)
    pools.close()
    return {"missing": text}


async def left_over() -> list[int]:
    """Which of the noted processes still run after ten seconds."""
    deadline = time.monotonic() + 10.0
    while left := [p for p in PIDS if psutil.pid_exists(p) and running(p)]:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    return left


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def main(address: str, *ips: str) -> None:
    cluster = await asyncio.to_thread(Cluster.connect, address=address)
    report: dict[str, Any] = {}
    try:
        for part in (same_scores, slow_node, killed_actor, missing_module):
            report |= await part(list(ips))
        # with the cluster still up: what is gone was ended by the pools
        report |= {"pids": sorted(PIDS), "left": await left_over()}
    finally:
        cluster.close()
    print(json.dumps(report))


asyncio.run(main(*sys.argv[1:]))
