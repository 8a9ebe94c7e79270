import json
from pathlib import Path

import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.audit import audit_rows
from rlnorm.rewards.code_tests import CallTest, StreamTest, parse_tests
from rlnorm.rewards.data.formats import FORMATS
from rlnorm.rewards.data.problems import load_problems, question_key
from rlnorm.rewards.grade import audit

SHARED = Path(__file__).parents[4] / "shared" / "data"


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_a_given_policy_comes_before_the_rows_and_that_before_the_formats(tmp_path):
    row = {"input": "q?", "target": 2, "policy": {"percent": "strict", "relative_tolerance": 0.1}}
    given = {"percent": "value"}
    [problem], _ = load_problems(
        write(tmp_path / "d.jsonl", [row]), format="gsm_hard", policy=given
    )
    assert problem.meta["policy"] == {"percent": "value", "relative_tolerance": 0.1}


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
    "amc23": ({"id": 0, "question": "q?", "answer": 27.0}, "27"),
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


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_formats_read_the_shape_of_the_hub(name, suffix, tmp_path):
    row, answer = HUB_SHAPES[name]
    path = tmp_path / f"data{suffix}"
    if suffix == ".jsonl":
        write(path, [row])
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    [problem], report = load_problems(path, format=name)
    assert problem.answer == answer
    assert problem.question
    assert report.summary() == "1 of 1 rows kept"


def test_format_details(tmp_path):
    def load(name):
        return load_problems(write(tmp_path / "d.jsonl", [HUB_SHAPES[name][0]]), format=name)[0][0]

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
    assert (problem.id, problem.question, problem.answer) == ("4", "q?", [1, 2])
    assert problem.meta["more"] == "kept"


def good(i=0, **changes):
    return {"id": f"r{i}", "question": f"question {i}?", "answer": str(i)} | changes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [good(), {"id": "x", "answer": "1"}],
            r"row 2: no field question or problem .* it has \['answer', 'id'\]; name its column in "
            r"data\.fields\.question$",
        ),
        ([good(), good()], r"1 rows with duplicate id: r0 \(row 2\)$"),
        ([good(), good(1, answer=" ")], r"empty question or answer: r1 \(row 2\)$"),
        ([good(), good(1, answer=None)], "empty question or answer: r1"),
        ([], "has no rows"),
    ],
)
def test_bad_rows_are_errors(rows, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_problems(write(tmp_path / "d.jsonl", rows))


TESTS = [{"stdin": "1\n", "stdout": "}"}, {"function": "f", "args": [1, [2]], "expected": {"a": 1}}]
CALLS = {
    "calls": [{"name": "weather", "parameters": {"city": "Ulm", "days": 2}}],
    "response": False,
}


@pytest.mark.parametrize(
    "gold",
    [TESTS, CALLS, ["Paris", "City of Paris"], json.dumps(TESTS), "def f() { return", "a } b"],
)
def test_golds_of_any_form_arrive_as_they_are(gold, tmp_path):
    path = write(tmp_path / "d.jsonl", [good(0, answer=gold), good(1)])
    rows, report = load_problems(path)
    assert rows[0].answer == gold
    assert report.summary() == "2 of 2 rows kept"


def test_structured_golds_of_parquet_and_what_json_cannot_carry(tmp_path):
    import datetime

    import pyarrow
    import pyarrow.parquet

    day = datetime.date(2026, 1, 2)
    rows = [
        {"question": "a?", "answer": [{"stdin": "1", "stdout": "2", "day": day}]},
        {"question": "b?", "answer": [{"function": "f", "args": [1], "expected": 2}]},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    first, second = (row.answer for row in load_problems(tmp_path / "d.parquet")[0])
    assert json.loads(json.dumps(first))[0]["day"] == "2026-01-02"
    assert parse_tests(first) == [StreamTest("1", "2")]
    mixed = [
        {"question": "a?", "answer": [rows[0]["answer"][0], rows[1]["answer"][0]]},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(mixed), tmp_path / "d.parquet")
    [both] = load_problems(tmp_path / "d.parquet")[0]
    assert parse_tests(both.answer) == [StreamTest("1", "2"), CallTest("f", (1,), 2)]
    assert [type(test) for test in parse_tests(second)] == [CallTest]


@pytest.mark.parametrize("gold", [[], {}, [""], [None, " "], "", None])
def test_golds_that_hold_nothing_are_empty(gold, tmp_path):
    with pytest.raises(InputError, match="1 rows with empty question or answer: r1"):
        load_problems(write(tmp_path / "d.jsonl", [good(), good(1, answer=gold)]))


def test_a_text_that_is_no_mathematics_fails_only_where_a_format_says_it_should_be(tmp_path):
    path = write(tmp_path / "d.jsonl", [good(), good(1, answer="a } b")])
    _, report = load_problems(path)
    assert report.dropped == {}
    assert report.audit.text_only == ("r1",)
    _, report = load_problems(path, format="math500", fields={"question": "question"})
    assert report.dropped == {"gold_error": ("r1",)}


def test_data_without_golds_must_say_so(tmp_path):
    rows = [{"id": "a", "question": "Say hello."}, {"id": "b", "question": "Say no."}]
    path = write(tmp_path / "d.jsonl", rows)
    with pytest.raises(InputError, match=r'or set fields\.answer: "" for data without golds'):
        load_problems(path)
    kept, report = load_problems(path, fields={"answer": ""})
    assert [r.answer for r in kept] == [None, None]
    assert report.summary() == "2 of 2 rows kept"
    with pytest.raises(InputError, match=r"fields.question = '': needs the name of a column"):
        load_problems(path, fields={"question": "", "answer": ""})


def test_rows_without_ids_that_ask_the_same_are_counted_and_named(tmp_path):
    rows = [{"question": q, "answer": "1"} for q in ("1+0?", "2-1?", " 1+0? ", "2 - 1?", "1+0?")]
    kept, report = load_problems(write(tmp_path / "d.jsonl", rows))
    # 2-1 and 2 - 1 are not spelled the same, and 1+0 is another question than 1-0
    assert [r.id for r in kept] == ["d-0", "d-1", "d-3"]
    assert report.summary() == "3 of 5 rows kept; repeated: 2 (d-2, d-4)"
    # ids that the data gives are believed
    named = [row | {"id": i} for i, row in enumerate(rows)]
    assert len(load_problems(write(tmp_path / "d.jsonl", named))[0]) == 5


def test_the_source_column_can_be_named(tmp_path):
    path = write(tmp_path / "d.jsonl", [good(0, origin="book 3", source="web")])
    [row], _ = load_problems(path, fields={"source": "origin"})
    assert row.source == "book 3"
    assert "origin" not in row.meta
    assert load_problems(path)[0][0].source == "web"


SYSTEM = {"role": "system", "content": "Be brief."}
ASKED = [SYSTEM, {"role": "user", "content": "2+2?"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_column_of_messages_is_the_prompt(suffix, tmp_path):
    more = [{"role": "assistant", "content": "4"}, {"role": "user", "content": "And 3+3?"}]
    rows = [{"chat": ASKED, "gold": "4"}, {"chat": [*ASKED, *more], "gold": "6"}]
    path = tmp_path / f"d{suffix}"
    if suffix == ".jsonl":
        write(path, rows)
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    kept, _ = load_problems(path, fields={"messages": "chat", "answer": "gold"})
    assert [list(r.messages) for r in kept] == [ASKED, [*ASKED, *more]]
    assert [r.question for r in kept] == ["2+2?", "And 3+3?"]
    assert "chat" not in kept[0].meta
    # by its usual name it needs no field map; a question beside it is the prompt
    [row], _ = load_problems(write(tmp_path / "m.jsonl", [{"messages": ASKED, "answer": 4}]))
    assert (row.question, len(row.messages)) == ("2+2?", 2)
    [row], _ = load_problems(write(tmp_path / "m.jsonl", [good(0, messages=ASKED)]))
    assert (row.question, row.messages, row.meta["messages"]) == ("question 0?", (), ASKED)


USER, REPLY = ASKED[1], {"role": "assistant", "content": "4"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2+2?", r"row 1: messages = '2\+2\?': needs a non-empty list of {role, content}"),
        ([], r"messages = \[\]: needs a non-empty list"),
        (["hi"], r"messages\[0\] = 'hi': needs a table"),
        (
            [{"role": "human", "content": "x"}],
            r"messages\[0\].role = 'human': allowed system, user",
        ),
        ([{"role": "user"}], r"messages\[0\].content = None: needs text"),
        ([{"role": "user", "content": [{"type": "image"}]}], r"content = .*needs text"),
        ([USER, REPLY], r"messages\[1\].role = 'assistant': the last message must be the user's"),
        ([USER, SYSTEM, USER], r"messages\[1\]: a system message may only come first"),
        ([USER | {"tool_calls": [1]}], r"messages\[0\].tool_calls: only role and content are read"),
        (None, "empty question or answer: d-0"),
        ([{"role": "user", "content": " "}], "empty question or answer: d-0"),
    ],
)
def test_wrong_messages_are_told(value, message, tmp_path):
    path = write(tmp_path / "d.jsonl", [{"messages": value, "answer": "1"}])
    with pytest.raises(InputError, match=message):
        load_problems(path, fields={"messages": "messages"})


def test_question_and_messages_cannot_both_be_the_prompt(tmp_path):
    path = write(tmp_path / "d.jsonl", [good(0, messages=ASKED)])
    with pytest.raises(InputError, match=r"fields\.messages: a prompt is read from it or from"):
        load_problems(path, fields={"messages": "messages", "question": "question"})


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
        load_problems(tmp_path, format="gsm8")
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": 1}]', r"line 1: is a list: needs one JSON object per line, not a list"),
        (
            '{"id": 1},\n{"id": 2}\n',
            r"line 1: Extra data at column 10 .*: needs one JSON obj",
        ),
        ('\n[\n  {"id": 1}\n]\n', r"line 2: Expecting value at column 2 .*: needs one JSON"),
    ],
)
def test_json_that_is_not_one_object_a_line_says_so(text, message, tmp_path):
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_problems(tmp_path / "d.json")


def test_bytes_of_parquet_are_text(tmp_path):
    import pyarrow
    import pyarrow.parquet

    def load(**row):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "d.parquet")
        return load_problems(tmp_path / "d.parquet")[0][0]

    row = load(id=b"a", question="1+1 in \u20ac?".encode(), answer=b"2", image=b"\xff\xd8")
    assert (row.id, row.question, row.answer) == ("a", "1+1 in \u20ac?", "2")
    assert row.meta["image"] == b"\xff\xd8"  # a column that is not read may hold anything
    assert load(question="q?", answer=[b"2", b"two"]).answer == ["2", "two"]
    with pytest.raises(InputError, match=r"row 1: answer holds bytes that are not UTF-8"):
        load(question="q?", answer=b"\xff")


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
    kept, report = load_problems(path, format="countdown")
    assert [r.id for r in kept] == ["good"]
    assert report.dropped == {"gold_error": ("bad",)}
    found = audit(path, format="countdown", show=False)
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
    ("file", "format", "rows"),
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
def test_every_gold_of_the_real_sets_verifies(file, format, rows):
    if not (SHARED / file).is_file():
        pytest.skip(f"{SHARED / file} is not here")
    kept, report = load_problems(SHARED / file, format=format)
    assert (len(kept), report.read) == (rows, rows)
    assert report.audit is not None
    assert len(report.audit.text_only) <= 0.005 * rows


def test_the_real_splits_are_apart():
    if not (SHARED / "gsm8k").is_dir():
        pytest.skip(f"{SHARED} is not here")
    held_out, _ = load_problems(SHARED / "gsm8k" / "test.jsonl", format="gsm8k")
    rows, _ = load_problems(SHARED / "gsm8k", split="train", format="gsm8k", keep_out=held_out)
    assert len(rows) == 7473
