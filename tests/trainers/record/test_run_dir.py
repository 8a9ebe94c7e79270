"""A run directory that cannot be made is refused in one line, and what was there stays."""

import math
import resource
from contextlib import contextmanager

import pytest
import yaml

from rlnorm.errors import InputError
from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.files import check_writable, write_atomic
from rlnorm.trainers.record.run_dir import RunDir, dump_config


@contextmanager
def nothing_can_be_written():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_place_below_a_file_is_refused_and_one_that_is_still_to_be_made_is_not(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "runs" / "a"):
        with pytest.raises(InputError, match=r"run directory .*file is a file, not a folder"):
            check_writable(folder, "run directory")
    with pytest.raises(InputError, match="File name too long"):
        check_writable(tmp_path / ("a" * 300), "run directory")
    check_writable(tmp_path / "new" / "deep", "run directory")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_cannot_be_written_leaves_what_was_there(tmp_path, overwrite):
    config = load_config("quickstart", [f"output_dir={tmp_path}"])
    run = RunDir(config.run_dir)
    if overwrite:
        run.create(config, overwrite=False)
        run.log_metrics({"step": 0})
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with nothing_can_be_written(), pytest.raises(InputError, match=r"run directory .*quickstart: "):
        run.create(config, overwrite=overwrite)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("there_before", [False, True])
def test_a_run_that_came_to_nothing_takes_with_it_only_what_it_made(tmp_path, there_before):
    config = load_config("quickstart", [f"output_dir={tmp_path / 'runs'}"])
    if there_before:
        (tmp_path / "runs").mkdir()
    run = RunDir(config.run_dir)
    run.create(config, overwrite=False)
    run.discard_if_empty()
    assert (tmp_path / "runs").exists() == there_before
    assert not run.path.exists()


def test_a_resumed_run_keeps_its_files_when_its_config_cannot_be_written(tmp_path):
    config = load_config("quickstart", [f"output_dir={tmp_path}"])
    run = RunDir(config.run_dir)
    run.create(config, overwrite=False)
    with nothing_can_be_written(), pytest.raises(InputError):
        run.create(config, overwrite=False)
    assert (run.path / "config.yaml").read_text()


def test_a_file_that_cannot_be_written_leaves_no_part_of_it(tmp_path):
    with nothing_can_be_written(), pytest.raises(OSError, match="File too large"):
        write_atomic(tmp_path / "a.json", "{}")
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_cut_off_goes_when_the_next_one_is_written(tmp_path):
    run = RunDir(tmp_path)
    run.events.write_text('{"event": "whole"}\n{"event": "cut o')
    run.log_event("resumed", step=3)
    assert run.events.read_text() == '{"event": "whole"}\n{"event": "resumed", "step": 3}\n'


def test_what_was_written_after_a_checkpoint_is_forgotten(tmp_path):
    run = RunDir(tmp_path)
    for step in (1, 2):
        run.log_metrics({"step": step})
        run.write_jsonl(tmp_path / "eval" / f"step_00000{step}" / "b.jsonl", [{"id": "1"}])
        (tmp_path / "rollouts").mkdir(exist_ok=True)
        (tmp_path / "rollouts" / f"step_00000{step}.parquet").touch()
    run.forget_after(1)
    left = sorted(path.name for path in tmp_path.glob("*/step_*"))
    assert left == ["step_000001", "step_000001.parquet"]
    assert run.metrics.read_text() == '{"step": 1}\n'


def test_an_infinite_option_is_the_same_in_the_config_of_the_run():
    config = load_config("quickstart", ["algorithm.correction=[{name: masked, high: .inf}]"])
    assert yaml.safe_load(dump_config(config))["algorithm"]["correction"][0]["high"] == math.inf
