"""Models and data sets by hub id, as a user types them, against a hub on this machine."""

import hashlib
import json
import socket

import pytest
from safetensors.torch import load_file

from rlnorm.trainers.tasks import shipped_model

ROWS = [{"q": f"{i} + {i}", "gold": str(2 * i), "uid": f"t{i}"} for i in range(8)]
TRAIN = "\n".join(map(json.dumps, ROWS))
TEST = json.dumps({"q": "100 + 1", "gold": "101", "uid": "e0"})
SUBSETS = """---
configs:
- {config_name: easy, data_files: e.jsonl}
- {config_name: hard, data_files: h.jsonl}
---
"""
FIELDS = "data.fields={question: q, answer: gold, id: uid}"
RUN = (
    "model.path=org/tiny",
    "data.train=hf:org/sums:train",
    "data.eval={sums: hf:org/sums:test}",
    FIELDS,
    "steps=2",
    "eval_samples=1",
    "checkpoint_every=2",
    "rollout={max_tokens: 8, prompts_per_step: 4, group_size: 2}",
    "run_name=hub",
)


@pytest.fixture
def filled(hub):
    """The hub with a model, files beside it that nobody needs, and a data set."""
    shipped = shipped_model("quick")
    hub.add("model", "org/tiny", {p.name: p.read_bytes() for p in shipped.iterdir() if p.is_file()})
    hub.add("model", "org/tiny", {"README.md": "# tiny", "pytorch_model.bin": b"unread"})
    hub.add("model", "org/tiny", {"original/model.safetensors": b"unread"})
    sums = {"train.jsonl": TRAIN, "test.jsonl": TEST, "README.md": "# sums"}
    hub.add("dataset", "org/sums", sums)
    return hub


def test_train_and_eval_by_id_then_again_without_the_hub(filled, rlnorm, tmp_path):
    first = rlnorm("train", "quickstart", *RUN)
    assert first.returncode == 0, first.stderr
    assert "downloading org/tiny from the hub" in first.stderr
    run = tmp_path / "runs" / "hub"
    capsule = json.loads((run / "capsule.json").read_text())
    weights = shipped_model("quick") / "model.safetensors"
    assert capsule["sha256"]["model"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    trained = run / "checkpoints" / "step_000002" / "model" / "model.safetensors"
    assert load_file(trained).keys() == load_file(weights).keys()
    fetched = [r for r in filled.requests if r.startswith("GET /org/tiny/resolve")]
    assert not [r for r in fetched if r.endswith((".bin", ".md", "original/model.safetensors"))]
    assert len(fetched) == len(set(fetched))

    asked = len(filled.requests)
    second = rlnorm("train", "quickstart", *RUN, "run_name=again", HF_HUB_OFFLINE="1")
    assert second.returncode == 0, second.stderr
    measured = rlnorm("eval", "quickstart", *RUN, HF_HUB_OFFLINE="1")
    assert measured.returncode == 0, measured.stderr
    assert "org/tiny" in measured.stdout
    assert "sums" in measured.stdout
    assert len(filled.requests) == asked
    again = json.loads((tmp_path / "runs" / "again" / "capsule.json").read_text())
    assert again["sha256"]["model"] == capsule["sha256"]["model"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def told(result, tmp_path) -> str:
    """The one line of an error, from a command that left nothing behind."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()
    lines = [x for x in result.stderr.splitlines() if not x.startswith("downloading ")]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ("model.path=org/none", ("model.path = 'org/none'", "no such model", "HF_TOKEN")),
        ("model.path=org/tiny@v9", ("model.path = 'org/tiny@v9'", "no revision 'v9'")),
        ("model.path=org/closed", ("model.path = 'org/closed'", "restricted", "HF_TOKEN")),
        ("model.path=org/bare", ("model.path = 'org/bare'", "no config.json")),
        ("data.train=hf:org/none", ("data.train = 'hf:org/none'", "no such data set")),
        ("data.train=hf:org/shut", ("data.train = 'hf:org/shut'", "restricted", "/datasets/org")),
        ("data.eval={a: hf:org/none:test}", ("data.eval.a = 'hf:org/none:test'", "no such data")),
        ("data.train=hf:org", ("data.train = 'hf:org'", "allowed", "gsm8k")),
        ("data.train=hf:org/sums:dev", ("data.train = 'hf:org/sums:dev'", "dev", "test", "train")),
        ("data.train=hf:org/sums/x", ("data.train = 'hf:org/sums/x'", "'x'", "default")),
        ("data.train=hf:org/two", ("data.train = 'hf:org/two'", "easy", "hard", "/SUBSET")),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_not_there_or_closed_is_one_line(filled, rlnorm, tmp_path, change, parts):
    filled.add("model", "org/closed", {"config.json": "{}"})
    filled.add("model", "org/bare", {"model.safetensors": b""})
    filled.add("dataset", "org/shut", {"train.jsonl": TRAIN})
    filled.add("dataset", "org/two", {"README.md": SUBSETS, "e.jsonl": TRAIN, "h.jsonl": TEST})
    filled.gated = {"org/closed": 401, "org/shut": 403}
    line = told(rlnorm("train", "quickstart", *RUN, change), tmp_path)
    for part in parts:
        assert part in line


def test_a_subset_of_a_data_set_and_the_eval_command_on_a_missing_one(filled, rlnorm, tmp_path):
    filled.add("dataset", "org/two", {"README.md": SUBSETS, "e.jsonl": TRAIN, "h.jsonl": TEST})
    run = ("eval", "quickstart", *RUN)
    result = rlnorm(*run, "data.eval={hard: hf:org/two/hard:train}")
    assert result.returncode == 0, result.stderr
    line = told(rlnorm(*run, "data.eval={hard: hf:org/none:train}"), tmp_path)
    assert line.startswith("rlnorm: data.eval.hard = 'hf:org/none:train': ")


def test_a_hub_that_is_down_is_one_line_at_once(filled, rlnorm, tmp_path):
    endpoint = f"http://127.0.0.1:{free_port()}"
    result = rlnorm("train", "quickstart", *RUN, HF_ENDPOINT=endpoint)
    line = told(result, tmp_path)
    for part in ("model.path = 'org/tiny'", "no answer", endpoint, "HF_HUB_OFFLINE=1"):
        assert part in line
    line = told(rlnorm("train", "quickstart", *RUN, HF_HUB_OFFLINE="1"), tmp_path)
    for part in ("model.path = 'org/tiny'", "not in the cache", "HF_HUB_OFFLINE=1"):
        assert part in line


def test_a_hub_that_hangs_is_one_line_within_a_deadline(filled, rlnorm, tmp_path):
    # a hang in the middle of a download, with the client's own retries, is below
    filled.hangs = lambda asked: asked.startswith("/api/models")
    limits = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    result = rlnorm("train", "quickstart", *RUN, **limits)
    line = told(result, tmp_path)
    assert "model.path = 'org/tiny'" in line
    assert "no answer" in line
    assert result.seconds < 60


@pytest.mark.cluster
@pytest.mark.slow
def test_engines_and_ranks_read_the_pinned_commit_while_the_branch_moves_on(
    filled, rlnorm, tmp_path
):
    before = filled.commit("model", "org/tiny")
    later = {"new.json": "{}"}
    filled.on_file = lambda repo: repo == "org/sums" and filled.add("model", "org/tiny", later)
    sizes = ("learner.ranks=1", "rollout.engines=1", "rollout.max_tokens=8", "eval_samples=1")
    batch = ("rollout.prompts_per_step=4", "rollout.group_size=2", "steps=1")
    result = rlnorm("train", "cluster_cpu", *RUN[:4], *sizes, *batch, timeout=540)
    assert result.returncode == 0, result.stderr
    assert filled.commit("model", "org/tiny") != before
    snapshots = tmp_path / "home" / "hub" / "models--org--tiny" / "snapshots"
    assert [p.name for p in snapshots.iterdir()] == [before]


@pytest.mark.slow
def test_rows_of_an_older_commit_never_stand_in_for_those_asked_for(filled, rlnorm, tmp_path):
    run = ("eval", "quickstart", *RUN)
    assert rlnorm(*run).returncode == 0
    before = filled.commit("dataset", "org/sums")
    filled.add("dataset", "org/sums", {"test.jsonl": TEST.replace("101", "102")})
    filled.hangs = lambda asked: asked.startswith("/datasets/org/sums/resolve")
    limits = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    result = rlnorm(*run, **limits)
    assert "no answer" in told(result, tmp_path)
    assert result.seconds < 120
    line = told(rlnorm(*run, "data.train=hf:org/sums@v9", HF_HUB_OFFLINE="1"), tmp_path)
    for part in ("data.train = 'hf:org/sums@v9'", "not in the cache"):
        assert part in line
    pinned = "data={train: hf:org/sums@%s:train, eval: {sums: hf:org/sums@%s:test}}"
    assert rlnorm(*run, pinned % (before, before), FIELDS, HF_HUB_OFFLINE="1").returncode == 0
