import json
from pathlib import Path

import pytest

from rewards.audit import audit, audit_rows
from rewards.data import load_problems, question_key
from rewards.errors import InputError
from rewards.presets import PRESETS

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


# one row of each set in the shape its page on the hub documents, with made-up content
HUB_SHAPES = {
    "gsm8k": ({"question": "q?", "answer": "2+2=<<2+2=4>>4\n#### 1,004"}, "1004"),
    "svamp": ({"ID": "c1", "Body": "Two dogs", "Question": "How many?", "Answer": 2.0}, "2"),
    "gsm_hard": ({"input": "q?", "code": "...", "target": -21.5}, "-21.5"),
    "aqua": ({"question": "q?", "options": ["A)1", "B)2"], "rationale": "", "correct": "B"}, "B"),
    "olympiadbench": (
        {"id": 3, "question": "q?", "final_answer": ["1", "2"], "error": "1e-1"},
        "1, 2",
    ),
    "countdown": ({"nums": [3, 5], "target": 8}, "8"),
    "math500": (
        {"problem": "q?", "solution": "s", "answer": "\\frac{1}{2}", "level": 5, "unique_id": "u"},
        "\\frac{1}{2}",
    ),
    "aime24": ({"ID": "2024-I-1", "Problem": "q?", "Solution": "s", "Answer": 204}, "204"),
    "aime25": ({"id": "0", "problem": "q?", "answer": "70"}, "70"),
    "amc23": ({"id": 0, "question": "q?", "answer": 27.0}, "27.0"),
    "minerva": ({"question": "q?", "answer": "4.5e33"}, "4.5e33"),
    "dapo_math_17k": (
        {
            "prompt": [{"role": "user", "content": "q?"}],
            "reward_model": {"ground_truth": "34", "style": "rule"},
            "extra_info": {"index": "abc"},
        },
        "34",
    ),
}


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_presets_read_the_shape_of_the_hub(name, suffix, tmp_path):
    row, answer = HUB_SHAPES[name]
    path = tmp_path / f"data{suffix}"
    if suffix == ".jsonl":
        write(path, [row])
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    [problem], report = load_problems(path, preset=name)
    assert problem.answer == answer
    assert problem.question
    assert report.summary() == "1 of 1 rows kept"


def test_preset_details(tmp_path):
    def load(name):
        return load_problems(write(tmp_path / "d.jsonl", [HUB_SHAPES[name][0]]), preset=name)[0][0]

    assert load("svamp").question == "Two dogs. How many?"
    assert load("aqua").question == "q?\nAnswer choices:\nA)1\nB)2"
    assert load("aqua").meta["verifier"] == "choice"
    assert load("olympiadbench").meta["policy"] == {"units": "ignore", "absolute_tolerance": 0.1}
    assert (load("math500").id, load("math500").level) == ("u", 5)
    assert load("countdown").meta["nums"] == [3, 5]
    assert load("dapo_math_17k").id == "abc"


def test_field_map_with_nested_columns(tmp_path):
    rows = [{"uid": 4, "in": {"text": "q?"}, "gold": [1, 2], "more": "kept"}]
    fields = {"question": "in.text", "answer": "gold", "id": "uid"}
    [problem], _ = load_problems(write(tmp_path / "d.jsonl", rows), fields=fields)
    assert (problem.id, problem.question, problem.answer) == ("4", "q?", "1, 2")
    assert problem.meta["more"] == "kept"


def good(i=0, **changes):
    return {"id": f"r{i}", "question": f"question {i}?", "answer": str(i)} | changes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([good(), {"id": "x", "answer": "1"}], r"d.jsonl row 2: no field question or problem"),
        ([good(), good()], "1 rows with duplicate id: r0"),
        ([good(), good(1, answer=" ")], "empty question or answer: r1"),
        ([good(), good(1, answer=None)], "empty question or answer: r1"),
        ([], "has no rows"),
    ],
)
def test_bad_rows_are_errors(rows, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_problems(write(tmp_path / "d.jsonl", rows))


def test_bad_rows_can_be_dropped_and_are_reported(tmp_path):
    held_out, _ = load_problems(write(tmp_path / "test.jsonl", [good(5)]))
    leaked = good(6, question="  QUESTION 5 ")
    rows = [good(), good(), good(1, answer=""), leaked, good(2)]
    path = write(tmp_path / "d.jsonl", rows)
    kept, report = load_problems(path, keep_out=held_out, on_bad="drop")
    assert [r.id for r in kept] == ["r0", "r2"]
    assert report.dropped == {"duplicate": ("r0",), "empty": ("r1",), "leaked": ("r6",)}
    assert report.summary() == "2 of 5 rows kept; duplicate: 1 (r0); empty: 1 (r1); leaked: 1 (r6)"
    with pytest.raises(InputError, match="also in the held-out data: r6"):
        load_problems(write(tmp_path / "d.jsonl", [good(), leaked]), keep_out=held_out)


def test_missing_files_and_names(tmp_path):
    with pytest.raises(InputError, match="no such file, folder or hub id"):
        load_problems(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="did you mean 'gsm8k'"):
        load_problems(tmp_path, preset="gsm8")
    with pytest.raises(InputError, match=r"fields.anwser: .*did you mean 'answer'"):
        load_problems(write(tmp_path / "d.jsonl", [good()]), fields={"anwser": "x"})
    with pytest.raises(InputError, match=r"has no test.jsonl or .parquet"):
        load_problems(tmp_path, split="test")
    (tmp_path / "bad.jsonl").write_text('{"id": 1}\n{\n')
    with pytest.raises(InputError, match=r"bad\.jsonl line 2"):
        load_problems(tmp_path / "bad.jsonl")
    (tmp_path / "bad.parquet").write_text("no parquet")
    with pytest.raises(InputError, match="not readable as Parquet"):
        load_problems(tmp_path / "bad.parquet")


def test_a_folder_and_its_splits(tmp_path):
    write(tmp_path / "train.jsonl", [good(), good(1)])
    write(tmp_path / "test.jsonl", [good(2)])
    assert [r.id for r in load_problems(tmp_path, split="test")[0]] == ["r2"]
    assert len(load_problems(tmp_path)[0]) == 3


def test_golds_that_do_not_verify_are_dropped_and_named(tmp_path):
    rows = [
        {"id": "good", "question": "a", "answer": "(3 + 5)", "nums": [3, 5], "target": 8},
        {"id": "bad", "question": "b", "answer": "3 + 6", "nums": [3, 5], "target": 8},
    ]
    path = write(tmp_path / "d.jsonl", rows)
    kept, report = load_problems(path, preset="countdown")
    assert [r.id for r in kept] == ["good"]
    assert report.dropped == {"gold_error": ("bad",)}
    found = audit(path, preset="countdown", show=False)
    assert found.failed == ("bad",)
    assert "uses [3, 6]" in found.why["bad"]


def test_audit_tells_text_from_mathematics(capsys, tmp_path):
    rows = [("a", "\\frac{1}{2}", {}), ("b", "no solution exists", {}), ("c", "x #@ 3", {})]
    report = audit_rows(rows)
    assert report.failed == ()
    assert report.text_only == ("c",)
    path = write(tmp_path / "d.jsonl", [good(0, answer="x #@ 3")])
    audit(path)
    assert "1 of 1 golds verify; 1 only as text" in capsys.readouterr().out


def test_question_key_ignores_spelling():
    assert question_key("What's  2+2 ?") == question_key("what s 2 2")


@pytest.mark.parametrize(
    ("file", "preset", "rows"),
    [
        ("gsm8k/train.jsonl", "gsm8k", 7473),
        ("gsm8k/test.jsonl", "gsm8k", 1319),
        ("svamp/all.jsonl", "svamp", 1000),
        ("gsm_hard/test.jsonl", "gsm_hard", 1319),
        ("aqua/test.jsonl", "aqua", 254),
        ("olympiadbench/test.jsonl", "olympiadbench", 675),
        ("countdown/train.jsonl", "countdown", 8000),
        ("countdown/test.jsonl", "countdown", 512),
    ],
)
def test_every_gold_of_the_real_sets_verifies(file, preset, rows):
    if not (SHARED / file).is_file():
        pytest.skip(f"{SHARED / file} is not here")
    kept, report = load_problems(SHARED / file, preset=preset)
    assert (len(kept), report.read) == (rows, rows)
    assert report.audit is not None
    assert len(report.audit.text_only) <= 0.005 * rows


def test_the_real_splits_are_apart():
    if not (SHARED / "gsm8k").is_dir():
        pytest.skip(f"{SHARED} is not here")
    held_out, _ = load_problems(SHARED / "gsm8k" / "test.jsonl", preset="gsm8k")
    rows, _ = load_problems(SHARED / "gsm8k", split="train", preset="gsm8k", keep_out=held_out)
    assert len(rows) == 7473
