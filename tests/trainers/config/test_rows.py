"""Rows are read once, before torch is loaded, and again when their file has changed."""

import json
import os
import subprocess
import sys

import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.registry import load_rewards
from rlnorm.trainers.config.rows import forget_rows, read_rows, usable_rows
from rlnorm.trainers.config.sources import DataSource


def source(path, text="", **fields):
    return DataSource(key="data.train", text=f"{text}{path}", fields=fields)


def write(path, *golds):
    rows = [{"id": i, "question": f"{i}?", "answer": gold} for i, gold in enumerate(golds)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path):
    path = write(tmp_path / "d.jsonl", "1", "2")
    rows, report = read_rows(source(path))
    assert [r.answer for r in rows] == ["1", "2"]
    assert read_rows(source(path))[0] is rows
    before = path.stat()
    write(path, "3", "4")  # of the same size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert [r.answer for r in read_rows(source(path))[0]] == ["3", "4"]
    assert [r.question for r in read_rows(source(path, question="answer"))[0]] == ["3", "4"]
    again = read_rows(source(path))[0]
    forget_rows()
    assert read_rows(source(path))[0] is not again
    assert report.read == 2


def test_a_new_file_in_a_folder_is_read(tmp_path):
    write(tmp_path / "a.jsonl", "1")
    assert len(read_rows(source(tmp_path))[0]) == 1
    (tmp_path / "b.jsonl").write_text('{"id": "b", "question": "b?", "answer": "2"}\n')
    assert [r.answer for r in read_rows(source(tmp_path))[0]] == ["1", "2"]


def test_golds_are_audited_where_a_reward_for_mathematics_is_for_the_row(tmp_path):
    path = write(tmp_path / "d.jsonl", "1", "a } b")
    fields = {"question": "question", "answer": "answer"}
    both = load_rewards([{"name": "m", "function": "math"}])
    kept, report = usable_rows(source(path, "math500=", **fields), both, "drop")
    assert [r.id for r in kept] == ["0"]
    assert (report.read, report.kept, report.dropped) == (2, 1, {"gold_error": ("1",)})
    first = load_rewards(
        [
            {"name": "m", "function": "math", "rows": {"level": (1,)}},
            {"name": "e", "function": "exact"},
        ]
    )
    assert len(usable_rows(source(path, "math500=", **fields), first, "error")[0]) == 2


def test_a_gold_that_math_can_never_equal_is_left_out_also_without_a_data_format(tmp_path):
    golds = "1", "a sentence", "\\frac{1", "$", "}", "<think>"
    path = write(tmp_path / "d.jsonl", *golds)
    kept, report = usable_rows(
        source(path), load_rewards([{"name": "m", "function": "math"}]), "drop"
    )
    assert [r.answer for r in kept] == ["1", "a sentence"]
    assert report.dropped == {"gold_error": ("2", "3", "4", "5")}
    others = load_rewards([{"name": "e", "function": "exact"}])
    assert len(usable_rows(source(path), others, "error")[0]) == len(golds)


def test_rows_without_any_gold_that_can_be_read_are_refused(tmp_path):
    path = write(tmp_path / "d.jsonl", "1", "2")
    message = r"data.train = '.*d.jsonl': 2 of 2 golds cannot be read by .*: 0 \(c: .*them$"
    with pytest.raises(InputError, match=message):
        usable_rows(source(path), load_rewards([{"name": "c", "function": "code"}]), "drop")


LIGHT = """
import sys
from rlnorm.errors import InputError
from rlnorm.trainers.config.check import precheck
from rlnorm.trainers.config.load import load_config

try:
    precheck(load_config("quickstart", ["data.train=" + sys.argv[1]]))
except InputError as error:
    print(error)
heavy = {"torch", "transformers", "pyarrow", "scipy"} & set(sys.modules)
sys.exit(str(heavy) if heavy else 0)
"""


def test_a_malformed_row_is_told_before_anything_heavy_is_imported(tmp_path):
    path = write(tmp_path / "d.jsonl", "1", float("inf"))
    command = [sys.executable, "-c", LIGHT, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.endswith("d.jsonl row 2: answer = inf: needs a finite number, or text\n")
    assert result.returncode == 0, result.stderr
