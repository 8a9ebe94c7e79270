"""A home folder is expanded wherever a config names a path, and a URL is refused."""

import os

import pytest

from rlnorm.errors import InputError
from rlnorm.trainers.config.check import precheck
from rlnorm.trainers.config.load import load_config, validate_config
from rlnorm.trainers.config.paths import local_path, source_text
from rlnorm.trainers.record.run_dir import dump_config


@pytest.fixture
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")


def test_the_home_folder_is_expanded_in_every_path(home, tmp_path):
    config = load_config(
        "quickstart",
        [
            "model.path=~/models/m",
            "output_dir=~/runs",
            "data.train={a: {source: ~/a.jsonl}, b: {source: gsm8k=~/b.jsonl}}",
            "data.eval={x: ~/x.parquet, y: 'task:chain', z: 'gsm8k=hf:a/b:test'}",
        ],
    )
    assert config.model.path == "/home/ada/models/m"
    assert str(config.run_dir) == "/home/ada/runs/quickstart"
    sources = [s.source for s in config.data.train_sources().values()]
    assert sources == ["/home/ada/a.jsonl", "gsm8k=/home/ada/b.jsonl"]
    assert list(config.data.eval.values()) == [
        "/home/ada/x.parquet",
        "task:chain",
        "gsm8k=hf:a/b:test",
    ]
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(str(tmp_path / "c.yaml")) == config


def test_what_is_no_home_folder_stays(home):
    assert local_path("~") == "/home/ada"
    assert local_path("./~") == "./~"
    assert local_path("a/~/b") == "a/~/b"
    assert local_path("runs") == "runs"
    assert source_text("~/a=b/c.jsonl") == "/home/ada/a=b/c.jsonl"
    assert local_path(f"~{os.environ.get('USER') or 'root'}").startswith("/")


@pytest.mark.parametrize(
    "url", ["s3://b/x", "gs://b/x", "hdfs://n/x", "file:///x", "http://h/x", "https://h/x.jsonl",
            "S3://b/x", "abfss://c@a/x", "s3:/b/x", "dbfs:/x", "hf://datasets/a/b"]
)  # fmt: skip
@pytest.mark.parametrize(
    ("key", "override"),
    [
        ("model.path", "model.path={}"),
        ("output_dir", "output_dir={}"),
        ("data.train", "data.train={}"),
        ("data.train", "data.train=gsm8k={}"),
        ("data.train.a.source", "data.train={{a: {{source: '{}'}}}}"),
        ("data.eval.x", "data.eval={{x: '{}'}}"),
    ],
)
def test_a_url_is_refused_by_key_and_value(url, key, override):
    with pytest.raises(InputError) as told:
        load_config("quickstart", [override.format(url)])
    assert str(told.value).startswith(f"{key}: got '{url}': is a URL, needs a path on this machine")
    assert "\n" not in str(told.value)


def test_a_space_before_a_url_hides_nothing():
    with pytest.raises(InputError, match=r"output_dir: got ' s3://b/x': is a URL"):
        load_config("quickstart", ["output_dir=' s3://b/x'"])


def test_a_source_without_a_name_is_refused_by_its_key():
    for key in ("data.train", "data.eval.x"):
        config = load_config("quickstart", ["data.eval={}", f"{key}=''"])
        with pytest.raises(InputError, match=rf"{key} = '': is empty; name a file"):
            precheck(config)


def test_an_unknown_user_and_a_nul_are_refused():
    with pytest.raises(InputError, match=r"output_dir: got '~nobody_here/x': no such user"):
        load_config("quickstart", ["output_dir=~nobody_here/x"])
    with pytest.raises(InputError, match=r"data.train: got 'a\\x00b.jsonl', needs a path"):
        load_config("quickstart", ['data.train="a\\0b.jsonl"'])


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"data": {"system_prompt": "a \ud83d"}}, "data.system_prompt"),
        ({"rewards": [{"name": "a", "function": "\udc00"}]}, "rewards.0.function"),
        ({"rollout": {"stop": ["ok", "\ud83d"]}}, "rollout.stop.1"),
        ({"data": {"\ud83d": 1}}, "data.\\ud83d"),
    ],
)
def test_half_of_a_surrogate_pair_in_a_config_is_named_by_its_key(table, key):
    with pytest.raises(InputError, match="half of a surrogate pair") as told:
        validate_config(table)
    assert str(told.value).startswith(f"{key} = ")
    str(told.value).encode()
