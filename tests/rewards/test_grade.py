import json

import psutil
import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.grade import grade

ROWS = [
    {"id": "a", "gold": "5", "pred": "\\boxed{5}", "expected": True, "category": "x"},
    {"id": 7, "gold": "5", "pred": "\\boxed{6}", "expected": False, "category": "x"},
    {"id": "a", "gold": "1/2", "pred": "\\boxed{0.5}", "expected": False, "category": "y"},
    {"id": None, "gold": 5, "pred": "nothing here", "expected": True, "category": "y"},
    {"id": "odd", "gold": "5", "pred": "\x00\ud800\u2028\\boxed{5}"},
    {"id": "\udfff", "gold": "1", "pred": "\\boxed{\\int_0^1 2x dx}"},
]
STATUSES = ["correct", "wrong", "correct", "no_answer", "correct", "correct"]


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + "\n")
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_come_in_order_with_exactly_four_keys(tmp_path, capsys):
    out = tmp_path / "v.jsonl"
    before = set(psutil.Process().children(recursive=True))
    report = grade(write(tmp_path / "c.jsonl", ROWS), out, workers=2, deadline=5.0)
    lines = read(out)
    assert [list(line) for line in lines] == [["id", "correct", "status", "seconds"]] * 6
    assert [line["id"] for line in lines] == [row["id"] for row in ROWS]
    assert [line["status"] for line in lines] == STATUSES
    assert [line["correct"] for line in lines] == [s == "correct" for s in STATUSES]
    assert all(0 <= line["seconds"] < 5 for line in lines)
    assert report.by_category == {"x": (2, 0, 0), "y": (2, 1, 1)}
    assert "6 rows, 4 correct" in capsys.readouterr().out
    assert set(psutil.Process().children(recursive=True)) <= before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.jsonl", "v.jsonl"]


def test_any_worker_count_gives_the_same_verdicts(tmp_path):
    rows = [
        {"id": i, "gold": str(i % 9), "pred": f"so \\boxed{{{i % 7}}}" if i % 5 else f"\\frac{i}"}
        for i in range(2500)
    ]
    cases = write(tmp_path / "c.jsonl", rows)
    found = []
    for workers in (1, 3):
        grade(cases, tmp_path / f"{workers}.jsonl", workers=workers, show=False)
        found.append([(r["id"], r["status"]) for r in read(tmp_path / f"{workers}.jsonl")])
    assert found[0] == found[1]
    assert [i for i, _ in found[0]] == list(range(2500))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": 1, "gold": "5", "pred": "5"}\n{"id": 1,\n', "line 2: "),
        ('\n{"id": 1, "gold": "5"}\n', "line 2: has no pred"),
        ("[1]\n", "line 1: needs an object with id, gold, pred"),
        ('{"id": 1, "gold": null, "pred": "5"}\n', "line 1: gold = None: needs text"),
        ('{"id": 1, "gold": NaN, "pred": "5"}\n', "line 1: gold = nan: needs a finite number"),
        ('{"id": 1, "gold": -Infinity, "pred": "5"}\n', "line 1: gold = -inf: needs a finite"),
        ('{"id": 1, "gold": "5", "pred": ["5"]}\n', "line 1: pred = "),
        ("x\n" * 9, r"and 4 more"),
        ("\n", "has no rows"),
    ],
)
def test_malformed_rows_are_named_by_line(tmp_path, content, message):
    cases = tmp_path / "c.jsonl"
    cases.write_text(content)
    with pytest.raises(InputError, match=message):
        grade(cases, tmp_path / "v.jsonl", show=False)
    assert not (tmp_path / "v.jsonl").exists()


def test_bad_arguments(tmp_path):
    cases = write(tmp_path / "c.jsonl", ROWS)
    with pytest.raises(InputError, match="no such file"):
        grade(tmp_path / "none.jsonl", tmp_path / "v.jsonl")
    with pytest.raises(InputError, match="workers = 0"):
        grade(cases, tmp_path / "v.jsonl", workers=0)
    with pytest.raises(InputError, match="deadline = 0"):
        grade(cases, tmp_path / "v.jsonl", deadline=0)
    with pytest.raises(InputError, match="folder does not exist"):
        grade(cases, tmp_path / "no" / "v.jsonl")
    with pytest.raises(InputError, match="is also the file of the cases"):
        grade(cases, cases)


def test_a_folder_for_out_is_told_before_anything_is_graded(tmp_path):
    (tmp_path / "verdicts").mkdir()
    with pytest.raises(InputError, match="verdicts': is a folder; name a file"):
        grade(tmp_path / "not_even_looked_at.jsonl", tmp_path / "verdicts")
    assert [p.name for p in tmp_path.iterdir()] == ["verdicts"]
