"""A two-node cluster on one machine: training over both nodes, rewards on both. Needs root."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from rlnorm.trainers.files import read_jsonl

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
if MISSING := [name for name in ("ray", "vllm", "deepspeed") if find_spec(name) is None]:
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

REWARDS = """rewards=[{name: correct, function: boxed_exact},
{name: format, function: boxed_format, weight: 0.1},
{name: where, function: "my_rewards:namespace", weight: 0.0}]"""


@pytest.fixture(scope="module")
def report(two_nodes):
    """What reward_driver.py measured on the head node."""
    (two_nodes.only_on_head / "only_here.py").write_text("def score(sample):\n    return 1.0\n")
    driver = str(Path(__file__).with_name("reward_driver.py"))
    done = two_nodes.python(driver, two_nodes.address, *two_nodes.ips, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_rewards_run_on_both_nodes_with_the_scores_of_one(report, two_nodes):
    assert report["scores_over_two"] == report["scores_here"]
    assert [row["math"] for row in report["scores_here"][:2]] == [[1.0, "correct"], [0.0, "wrong"]]
    assert report["workers"] == dict.fromkeys(two_nodes.ips, 2)
    # 96 rows of two rewards; equal math pairs are asked once
    assert min(report["items"].values()) >= 16


def test_a_slow_node_does_less_and_holds_up_nobody(report, two_nodes):
    """128 items: 4 ms on the head, 200 ms on the other node, two workers each: the other alone
    would need 12.8 s, an even deal 6.4 s; a node holds two parts of 16 items, which take 3.2 s."""
    head, other = (report["slow_items"][ip] for ip in two_nodes.ips)
    assert head + other == 128
    assert head >= 80
    assert report["slow_s"] < 6.0


def test_the_items_of_a_killed_actor_are_scored_elsewhere(report, two_nodes):
    head, other = two_nodes.ips
    assert report["killed_values"] == [4.0] * 40
    [event] = report["events"]
    assert (event["event"], event["node"]) == ("reward_node_lost", other)
    assert "its process died" in event["cause"]
    assert report["killed_items"][other] < 20  # what it had begun was taken from it
    assert report["after_the_death"] == [1.0, 2.0, 3.0]
    assert "no node is left to run rewards" in report["both_dead"]
    assert head in report["both_dead"]


def test_a_module_missing_on_one_node_is_told_in_one_line(report, two_nodes):
    text = report["missing"]
    assert text.startswith(f"rewards on node {two_nodes.ips[1]}: ")
    assert "'only_here:score': no module named 'only_here'" in text
    assert "\n" not in text


def test_no_process_is_left(report):
    assert len(report["pids"]) >= 10  # three pools of two actors, with workers
    assert report["left"] == []


def test_the_cluster_preset_learns_over_two_nodes(two_nodes, tmp_path):
    preset = (
        "-m",
        "rlnorm.launch.cli",
        "train",
        "cluster_cpu",
        f"cluster.address={two_nodes.address}",
    )
    small = (REWARDS, "steps=6", "eval_samples=1", f"output_dir={tmp_path}")
    done = two_nodes.python(*preset, *small, "run_name=two", timeout=420)
    assert done.returncode == 0, done.stderr[-3000:]
    refused = two_nodes.python(
        *preset, *small, "run_name=refused", timeout=90, RAY_AUTH_TOKEN="0" * 64
    )
    [event, ended] = read_jsonl(tmp_path / "two" / "events.jsonl")
    assert (ended["event"], ended["status"]) == ("ended", "done")
    assert sorted(event["engines"]) == sorted(event["ranks"]) == list(two_nodes.ips)
    assert sorted(event["reward_workers"]) == list(two_nodes.ips)
    rows = read_jsonl(tmp_path / "two" / "metrics.jsonl")
    # a number of the node's own, so it varies exactly where both scored
    assert min(row["reward/where/std"] for row in rows[1:]) > 0
    assert max(row["sync/parity_gap"] for row in rows[1:]) < 1e-4
    assert max(row["policy/logprob_gap_mean"] for row in rows[1:]) < 1e-4
    # about 19 % before; the embedded run has 45 % to 60 % after 6 steps
    assert rows[0]["eval/chain/avg@k"] < 0.3
    assert rows[-1]["eval/chain/avg@k"] > 0.38
    assert rows[-1]["eval/chain/greedy"] > 0.9
    assert refused.returncode == 1
    assert f"Ray: cannot use {two_nodes.address}" in refused.stderr
    assert "RAY_AUTH_TOKEN" in refused.stderr
    assert not (tmp_path / "refused").exists()
