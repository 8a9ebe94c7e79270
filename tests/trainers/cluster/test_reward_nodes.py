"""Reward workers inside Ray actors, on one node: deadlines, errors, and that nothing is left."""

import asyncio
import math
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from rlnorm.from_python import pickled
from rlnorm.rewards import load_rewards
from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.types import Sample
from rlnorm.trainers.cluster import reward_nodes
from rlnorm.trainers.cluster.ray import ClusterError, wait_for
from rlnorm.trainers.cluster.reward_nodes import NodePools, own_address

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

USER_CODE = Path(__file__).parents[2] / "rewards" / "user_code"


@pytest.fixture(scope="module", autouse=True)
def importable_on_the_node():
    """Before Ray starts, so that its actors have it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(USER_CODE))
        yield


def sample(text: str) -> Sample:
    return Sample(id=text, group="g", completion=text)


def gone(pids: list[int]) -> bool:
    """True as soon as none of them runs; False after ten seconds."""
    deadline = time.monotonic() + 10.0
    while any(psutil.pid_exists(p) and psutil.Process(p).status() != "zombie" for p in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def pools(ray_cluster, run):
    made = []

    def start(*functions: object, **options: object) -> NodePools:
        pools = NodePools([own_address()], **({"workers": 2} | options))
        made.append(pools)
        for function in functions:
            pools.register(function)
        run(pools.start())
        return pools

    yield start
    for one in made:
        one.close()


async def pids_of(pools: NodePools) -> tuple[int, list[int]]:
    """The actor's process and its workers'."""
    [actor] = pools.actors.values()
    refs = [actor.pid.remote(), actor.call.remote("pids")]
    pid, workers = await wait_for(refs, deadline_s=30.0, what="process ids")
    return pid, workers


def test_the_deadline_kills_inside_an_actor_and_only_the_guilty_item_is_marked(pools, run):
    started = pools("my_rewards:behaves")
    texts = ["a", "hang", "bb", "die", "ccc"]
    outcomes = run(started.map(0, [sample(t) for t in texts], deadline_s=0.7))
    assert [o.kind for o in outcomes] == ["ok", "timeout", "ok", "died", "ok"]
    assert [o.value for o in outcomes[::2]] == [1.0, 2.0, 3.0]
    assert 0.7 <= outcomes[1].seconds < 5.0
    assert list(started.items_by_node.values()) == [5]
    actor, workers = run(pids_of(started))
    assert 1 <= len(workers) <= 2
    started.close()
    assert gone([actor, *workers])
    started.close()
    with pytest.raises(RewardError, match="the node pools are closed"):
        run(started.map(0, [sample("a")]))


def test_samples_that_are_all_late_are_given_up_on_the_nodes_too(pools, run):
    started = pools("my_rewards:behaves")
    items = [sample("hang") for _ in range(64)]
    began = time.monotonic()
    outcomes = run(started.map(0, items, deadline_s=0.3, give_up_after=4))
    assert {o.kind for o in outcomes} == {"timeout"}
    # two parts at once, each given up after 4 or, by the other worker, 5; the rest is not run
    assert 4 <= sum(not math.isnan(o.seconds) for o in outcomes) <= 16
    assert time.monotonic() - began < 60


def test_a_function_given_from_python_goes_by_value_through_the_actor(pools, run):
    bonus = 0.5
    started = pools(pickled(lambda completion: len(completion) + bonus, "f"))
    assert [o.value for o in run(started.map(0, [sample("a"), sample("bb")]))] == [1.5, 2.5]


def test_no_worker_outlives_a_killed_actor_and_its_part_has_nowhere_to_go(pools, run):
    events = []
    started = pools("my_rewards:behaves", on_event=events.append)

    async def kill_while_it_hangs():
        task = asyncio.ensure_future(started.map(0, [sample("hang")], deadline_s=60.0))
        deadline = time.monotonic() + 60.0
        while not (found := await pids_of(started))[1]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        os.kill(found[0], signal.SIGKILL)
        with pytest.raises(RewardError, match="no node is left to run rewards: rewards on node"):
            await task
        with pytest.raises(RewardError, match="no node is left to run rewards: rewards on node"):
            await started.map(0, [sample("a")])
        return found

    actor, workers = run(kill_while_it_hangs())
    assert gone([actor, *workers])
    [event] = events
    assert (event["event"], event["node"]) == ("reward_node_lost", own_address())
    assert "its process died" in event["cause"]


def test_an_actor_that_keeps_silent_is_given_up_at_its_deadline(pools, run, monkeypatch):
    monkeypatch.setattr(reward_nodes, "RESTART_S", 0.5)
    started = pools("my_rewards:length", start_deadline_s=12.0)
    run(started.map(0, [sample("a")]))
    actor, workers = run(pids_of(started))
    os.kill(actor, signal.SIGSTOP)
    began = time.monotonic()
    # 12 s to start, and for one item its own second and 0.5 s beside it
    with pytest.raises(RewardError, match="no answer from 1 of 1 after 14 s"):
        run(started.map(0, [sample("a")], deadline_s=1.0))
    assert 13.5 <= time.monotonic() - began < 20.0
    assert gone([actor, *workers])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("no_such_module:f", "no module named 'no_such_module'"),
        ("my_rewards:lenth", "no 'lenth' in it, only"),
        ("needs_what_is_missing:f", "ModuleNotFoundError: No module named 'not_installed' ("),
    ],
)
def test_what_cannot_be_imported_on_a_node_is_told_at_the_start_in_one_line(
    pools, function, message
):
    with pytest.raises(ClusterError) as caught:
        pools("my_rewards:length", function)
    text = str(caught.value)
    assert text.startswith(f"rewards on node {own_address()}: InputError: function = {function!r}")
    assert message in text
    assert "\n" not in text


def test_a_file_of_rewards_works_on_a_node(pools, run):
    started = pools(f"{USER_CODE}/my_rewards.py:length")
    assert [o.value for o in run(started.map(0, [sample("abc")]))] == [3.0]


def test_a_reward_that_fails_to_load_in_a_worker_names_the_node(pools, run):
    started = pools("my_rewards:BrokenImport")
    with pytest.raises(
        RewardError,
        match=r"^rewards on node .*only fails inside a worker \(.*my_rewards.py, line \d+\)$",
    ):
        run(started.map(0, [sample("a")]))


def test_scores_of_maps_at_once_come_in_order(pools, run):
    started = pools("my_rewards:length", "my_rewards:behaves")
    texts = ["x" * (i % 7) for i in range(101)]

    async def both():
        items = [sample(t) for t in texts]
        return await asyncio.gather(*(started.map(call, items) for call in (0, 1, 0)))

    for outcomes in run(both()):
        assert [o.value for o in outcomes] == [float(i % 7) for i in range(101)]
    assert run(started.map(0, [])) == []
    assert list(started.items_by_node.values()) == [303]


SUM = "print(sum(map(int, input().split())))"
SPECS = [
    {"name": "math", "function": "math"},
    {"name": "code", "function": "code", "options": {"memory_mb": 256}},
    {"name": "length", "function": "my_rewards:length", "gate": "math"},
    {"name": "all", "function": "my_rewards:batch_of_lengths"},
]
BATCH = [
    Sample(id="1", group="g", completion="\\boxed{\\int_0^1 x dx}", gold="\\frac{1}{2}"),
    Sample(id="2", group="g", completion="\\boxed{2}", gold="3"),
    Sample(
        id="3", group="g", completion=f"```\n{SUM}\n```", gold=[{"stdin": "1 2", "stdout": "3"}]
    ),
    Sample(
        id="4", group="g", completion="```\nprint(4)\n```", gold=[{"stdin": "1 2", "stdout": "3"}]
    ),
]


def test_a_scorer_gives_the_same_scores_wherever_its_workers_are(ray_cluster, run, monkeypatch):
    """Math of layer 4, programs in their sandbox, a user's function and a batch of them."""
    monkeypatch.syspath_prepend(str(USER_CODE))
    scorer = load_rewards(SPECS, workers=1, on_alarm=lambda alarm: None)
    here = table(run(scorer.score(BATCH)))
    pools = NodePools([own_address()], workers=2)
    scorer.run_on(pools)
    run(pools.start())
    there = table(run(scorer.score(BATCH)))
    run(scorer.close())
    assert there == here
    assert [row["math"] for row in here[:2]] == [(1.0, "correct"), (0.0, "wrong")]
    assert [row["code"] for row in here] == [("nan", "gold_error")] * 2 + [
        (1.0, "correct"),
        (0.0, "wrong"),
    ]
    # one program and one row a sample, one batch, and layer 4's cache still knows the integral
    assert list(pools.items_by_node.values()) == [4 + 4 + 1]


def table(rows):
    """(value, status) of every component; NaN as text, since it equals nothing."""
    return [
        {n: ("nan" if math.isnan(s.value) else s.value, str(s.status)) for n, s in row.items()}
        for row in rows
    ]
