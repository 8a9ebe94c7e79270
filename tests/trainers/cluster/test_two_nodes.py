"""Two Ray nodes in two network namespaces joined by a veth pair: a two-node cluster on one machine,
with token authentication. Needs root; every process started here is ended by its id."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from trainers.run_dir import read_jsonl

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
if MISSING := [name for name in ("ray", "vllm", "deepspeed") if find_spec(name) is None]:
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

RAY = Path(sys.executable).with_name("ray")
PORT = 6379  # free by construction: the namespaces are ours


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture
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


def spawn(namespace: str, command: list[str], env: dict[str, str], log: Path) -> subprocess.Popen:
    with log.open("w") as out:
        return subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def test_the_cluster_preset_learns_over_two_nodes(namespaces, tmp_path):
    (head, head_ip), (other, other_ip) = namespaces
    env = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    # a short path: Ray puts unix sockets below it, whose names end at 107 bytes
    temp = Path("/tmp") / f"{head}-ray"
    common = ["--block", "--num-cpus=2", f"--object-store-memory={200 * 2**20}"]
    start = [str(RAY), "start", *common, "--disable-usage-stats"]
    address = f"{head_ip}:{PORT}"
    head_options = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={temp}"]
    started = []
    try:
        started.append(
            spawn(
                head,
                [*start, *head_options, f"--node-ip-address={head_ip}"],
                env,
                tmp_path / "head.log",
            )
        )
        wait_until_listening(head, tmp_path / "head.log")
        started.append(
            spawn(
                other,
                [*start, f"--address={address}", f"--node-ip-address={other_ip}"],
                env,
                tmp_path / "other.log",
            )
        )
        wait_until_joined(tmp_path / "other.log")
        preset = ["-m", "launch.cli", "train", "cluster_cpu", f"cluster.address={address}"]
        small = ["steps=6", "eval_samples=1", f"output_dir={tmp_path}", "run_name=two"]
        command = ["ip", "netns", "exec", head, sys.executable, *preset, *small]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=420)
        assert done.returncode == 0, done.stderr[-3000:]
        refused = subprocess.run(
            [*command[:-1], "run_name=refused"],
            env=env | {"RAY_AUTH_TOKEN": "0" * 64},
            capture_output=True,
            text=True,
            timeout=90,
        )
    finally:
        for name in (head, other):
            end_all(name)
        for process in started:
            process.wait(timeout=20)
        shutil.rmtree(temp, ignore_errors=True)
    [event] = read_jsonl(tmp_path / "two" / "events.jsonl")
    assert sorted(event["engines"]) == sorted(event["ranks"]) == [head_ip, other_ip]
    rows = read_jsonl(tmp_path / "two" / "metrics.jsonl")
    assert max(row["sync/parity_gap"] for row in rows[1:]) < 1e-4
    assert max(row["policy/logprob_gap_mean"] for row in rows[1:]) < 1e-4
    # about 19 % before; the embedded run has 45 % to 60 % after 6 steps
    assert rows[0]["eval/chain/avg@k"] < 0.3
    assert rows[-1]["eval/chain/avg@k"] > 0.38
    assert rows[-1]["eval/chain/greedy"] > 0.9
    assert refused.returncode == 1
    assert f"Ray: cannot use {address}" in refused.stderr
    assert "RAY_AUTH_TOKEN" in refused.stderr
    assert not (tmp_path / "refused").exists()


def wait_until_joined(log: Path) -> None:
    deadline = time.monotonic() + 60.0
    while "Ray runtime started" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


def wait_until_listening(namespace: str, log: Path) -> None:
    deadline = time.monotonic() + 60.0
    probe = f"import socket; socket.create_connection(('10.231.77.1', {PORT}), 1).close()"
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", probe]
    while subprocess.run(command, capture_output=True, timeout=20).returncode:
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.3)
