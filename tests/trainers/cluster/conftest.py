"""Ray on this machine, one cluster a module, ended with it: of one node, or of two namespaces."""

import asyncio
import gc
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from rlnorm.types import LossDenominators, TokenBatch


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[object]:
    from rlnorm.trainers.cluster.ray import Cluster

    cluster = Cluster.connect(object_store_mb=200)
    yield cluster
    cluster.close()
    with warnings.catch_warnings():
        # Ray drops the handles of the processes it has ended without waiting for them
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def run() -> Iterator[object]:
    """Run a coroutine to its end; one event loop a module."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def make_learner(ray_cluster, run, tmp_path_factory) -> Iterator[object]:
    """A started DeepSpeed learner on the shipped quick model; ended with the module."""
    from rlnorm.algorithms import resolve_algorithm
    from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
    from rlnorm.trainers.learner.deepspeed_learner import DeepSpeedLearner

    made = []

    def make(*, lora_rank: int = 0, **options: object) -> DeepSpeedLearner:
        learner = DeepSpeedLearner(
            ModelConfig(path="shipped:quick", lora={"rank": lora_rank} if lora_rank else None),
            LearnerConfig(lr=1e-3, weight_decay=0.1, **options),
            resolve_algorithm(
                "grpo", {"regularizers": [{"name": "kl", "kind": "k3", "coef": 0.04}]}
            ),
            cluster=ray_cluster,
            seed=0,
            faults=tmp_path_factory.mktemp("faults"),
            deadline_s=180.0,
        )
        made.append(learner)
        run(learner.start())
        return learner

    yield make
    for learner in made:
        run(learner.close())


@pytest.fixture(scope="module")
def batch() -> TokenBatch:
    """Seven rollouts of 6 to 29 random tokens, the first three of each a prompt, with every column
    that the loss asks for; random old logprobs make ratios on both sides of the clip."""
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(6, 30, (7,), generator=g)
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rollout_index = torch.repeat_interleave(torch.arange(7), lengths)
    positions = torch.arange(int(cu_seqlens[-1])) - cu_seqlens[rollout_index]
    mask = positions >= 3
    noise = torch.randn(4, len(positions), generator=g)
    columns = {
        "advantages": noise[0],
        "old_logprobs": -6 - noise[1].abs(),
        "sampler_logprobs": -6 - noise[2].abs(),
        "ref_logprobs": -6 - noise[3].abs(),
    }
    return TokenBatch(
        token_ids=torch.randint(0, 200, (len(positions),), generator=g),
        positions=positions,
        rollout_index=rollout_index,
        cu_seqlens=cu_seqlens,
        loss_mask=mask,
        columns={name: column.where(mask, 0.0) for name, column in columns.items()},
        temperature=0.9,
        denominators=LossDenominators(tokens=int(mask.sum()), rollouts=7, horizon=32),
    )


PORT = 6379  # free by construction: the namespaces are ours


@dataclass(frozen=True)
class TwoNodes:
    """Two Ray nodes in two network namespaces joined by a veth pair, with token authentication."""

    names: tuple[str, str]
    """Namespaces of the head and of the other node."""
    ips: tuple[str, str]
    env: dict[str, str]
    """Of whoever wants to join: the token and two paths for modules."""
    only_on_head: Path
    """A folder on every node's module path whose files the other node does not have."""

    @property
    def address(self) -> str:
        return f"{self.ips[0]}:{PORT}"

    def python(self, *arguments: str, timeout: float, **env: str) -> subprocess.CompletedProcess:
        """Run Python on the head node; env: beside the cluster's."""
        command = ["ip", "netns", "exec", self.names[0], sys.executable, *arguments]
        return subprocess.run(
            command, env=self.env | env, capture_output=True, text=True, timeout=timeout
        )

    def start(self, node: int, log: Path, *options: str) -> subprocess.Popen:
        """`ray start` on one node; it ends with the node's namespace."""
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=2"]
        store = f"--object-store-memory={200 * 2**20}"
        here = f"--node-ip-address={self.ips[node]}"
        inside = ["ip", "netns", "exec", self.names[node]]
        if node == 1:  # `ip netns exec` has a mount namespace of its own
            hide = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
            inside += ["sh", "-c", hide, str(self.only_on_head)]
        with log.open("w") as out:
            return subprocess.Popen(
                [*inside, *ray, store, here, "--disable-usage-stats", *options],
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
            )


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture(scope="module")
def namespaces() -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """((name, address) of the head, of the second node)."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("the ip command is not installed")
    tag = secrets.token_hex(2)
    names = (f"rln{tag}a", f"rln{tag}b")
    try:
        ip("netns", "add", names[0])
    except RuntimeError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        ip("netns", "add", names[1])
        links = (f"v{tag}a", f"v{tag}b")
        peer = ["type", "veth", "peer", "name", links[1], "netns", names[1]]
        ip("link", "add", links[0], "netns", names[0], *peer)
        for i in range(2):
            ip("-n", names[i], "addr", "add", f"10.231.77.{i + 1}/24", "dev", links[i])
            ip("-n", names[i], "link", "set", "lo", "up")
            ip("-n", names[i], "link", "set", links[i], "up")
        yield (names[0], "10.231.77.1"), (names[1], "10.231.77.2")
    finally:
        for name in names:
            if name in ip("netns", "list"):
                end_all(name)
                ip("netns", "del", name)


def end_all(namespace: str) -> None:
    """End every process of a namespace that only this test uses."""
    deadline = time.monotonic() + 20.0
    while pids := [int(pid) for pid in ip("netns", "pids", namespace).split() if alive(int(pid))]:
        assert time.monotonic() < deadline, f"{pids} do not end"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)


def alive(pid: int) -> bool:
    """False for a process that has ended and only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def two_nodes(namespaces, tmp_path_factory) -> Iterator[TwoNodes]:
    """A cluster of two nodes; needs root. Every process of it is ended by its id."""
    (head, head_ip), (other, other_ip) = namespaces
    folder = tmp_path_factory.mktemp("two_nodes")
    hidden = folder / "only_on_head"
    hidden.mkdir()
    user_code = Path(__file__).parents[2] / "rewards" / "user_code"
    env = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": f"{user_code}{os.pathsep}{hidden}",
    }
    nodes = TwoNodes((head, other), (head_ip, other_ip), env, hidden)
    # a short path: Ray puts unix sockets below it, whose names end at 107 bytes
    temp = Path("/tmp") / f"{head}-ray"
    logs = folder / "head.log", folder / "other.log"
    first = ("--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={temp}")
    started = []
    try:
        started.append(nodes.start(0, logs[0], *first))
        wait_until_listening(nodes, logs[0])
        started.append(nodes.start(1, logs[1], f"--address={nodes.address}"))
        wait_until_joined(logs[1])
        yield nodes
    finally:
        for name in nodes.names:
            end_all(name)
        for process in started:
            process.wait(timeout=20)
        shutil.rmtree(temp, ignore_errors=True)


def wait_until_joined(log: Path) -> None:
    deadline = time.monotonic() + 60.0
    while "Ray runtime started" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


def wait_until_listening(nodes: TwoNodes, log: Path) -> None:
    deadline = time.monotonic() + 60.0
    probe = f"import socket; socket.create_connection(('{nodes.ips[0]}', {PORT}), 1).close()"
    while nodes.python("-c", probe, timeout=20).returncode:
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.3)
