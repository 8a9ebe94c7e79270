"""A cell that is not what its column must hold is one line with file, row, column and value."""

import datetime
import json
from decimal import Decimal

import pyarrow
import pyarrow.parquet
import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.data.problems import load_problems
from rlnorm.rewards.json_values import number_text
from rlnorm.rewards.match import exact
from rlnorm.rewards.types import Status

NAN, INF = float("nan"), float("inf")
HALF = "a \ud83d b"
ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]


def row(**changes):
    return {"id": "r0", "question": "2+2?", "answer": "4"} | changes


def load(folder, *rows, **options):
    path = folder / "d.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return load_problems(path, **options)[0]


def load_parquet(folder, *rows, **options):
    path = folder / "d.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return load_problems(path, **options)[0]


def refused(load, *arguments, **options):
    with pytest.raises(InputError) as caught:
        load(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("read", [load, load_parquet])
def test_a_question_column_of_messages_is_the_conversation(read, tmp_path):
    [problem] = read(tmp_path, row(prompt=ASKED, question=None), fields={"question": "prompt"})
    assert list(problem.messages) == ASKED
    assert problem.question == "2+2?"
    assert "prompt" not in problem.meta


@pytest.mark.parametrize(
    "value",
    [
        {"role": "user", "content": "2+2?"},
        {"text": "2+2?"},
        ["2+2?", "3+3?"],
        [{"from": "human", "value": "2+2?"}],
        [{"role": "human", "content": "2+2?"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "text", "text": "2+2?"}]}],
        [{"role": "user", "content": "2+2?"}, {"from": "gpt", "value": "4"}],
        [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}],
        [ASKED],
        [],
        {},
        [None],
        True,
        False,
        7,
        7.5,
        0,
        json.dumps(ASKED),
        str(ASKED),
        json.dumps([{"from": "human", "value": "2+2?"}]),
        json.dumps(ASKED[-1]),
        json.dumps({"messages": ASKED}),
        str(tuple(ASKED)),
        f"[{ASKED[0]}\n {ASKED[-1]}]",
        f"array({ASKED}, dtype=object)",
    ],
    ids=repr,
)
def test_any_other_question_that_is_no_text_is_refused_by_name(value, tmp_path):
    rows = row(id="r1", prompt="3+3?"), row(prompt=value)
    told = refused(load, tmp_path, *rows, fields={"question": "prompt"})
    assert "d.jsonl row 2: prompt" in told
    assert "data.fields.messages" in told


def test_a_question_that_quotes_json_stays_text(tmp_path):
    asked = (
        'Sum the values: [{"value": 1}, {"value": 2}]',
        '[{"value": 1}, {"value": 2}] summed?',
        '{"role": "user", "content": "hi"} has how many keys?',
        '{"from": 1, "to": 2}',
    )
    rows = load(tmp_path, *(row(id=i, question=text) for i, text in enumerate(asked)))
    assert [r.question for r in rows] == [*asked]


@pytest.mark.parametrize("question", [NAN, None, "", "  "])
def test_a_question_that_holds_nothing_is_empty(question, tmp_path):
    rows = row(id="r1"), row(question=question)
    told = refused(load, tmp_path, *rows)
    assert told.endswith("d.jsonl: 1 rows with empty question or answer: r0 (row 2)")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (-3.0, "-3"),
        (-0.0, "0"),
        (1e3, "1000"),
        (1e22, "1" + "0" * 22),
        (4.5e33, "45" + "0" * 32),
        (2.5, "2.5"),
        (0.1, "0.1"),
        (12, "12"),
        (10**30, "1" + "0" * 30),
        ("2.0", "2.0"),
        ([2.0, "two"], [2, "two"]),
        ({"args": [2.0]}, {"args": [2.0]}),
    ],
)
def test_a_gold_that_is_a_whole_number_is_written_as_one(value, text, tmp_path):
    [problem] = load(tmp_path, row(answer=value))
    assert problem.answer == text
    assert json.dumps(problem.answer) == json.dumps(text)


def test_a_float_column_gives_golds_that_exact_finds_equal(tmp_path):
    golds = [load_parquet(tmp_path, row(answer=value))[0].answer for value in (2.0, [3.0])]
    assert golds == ["2", [3]]
    assert [exact(str(i), gold).status for i, gold in enumerate(golds, 2)] == [Status.CORRECT] * 2


def test_a_column_of_32_bit_floats_holds_what_was_written(tmp_path):
    for kind, values in (
        (pyarrow.float32(), {0.1: "0.1", 3.0: "3", 1e20: "1" + "0" * 20, 2.5: "2.5"}),
        (pyarrow.float16(), {2.5: "2.5", 4.0: "4"}),
    ):
        column = pyarrow.array([float(v) for v in values], pyarrow.float64()).cast(kind)
        asked = [f"{i}?" for i in range(len(values))]
        path = tmp_path / "d.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"question": asked, "answer": column}), path)
        assert [r.answer for r in load_problems(path)[0]] == list(values.values())


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pyarrow.list_(pyarrow.float32()), [0.1, 2.5]),
        (pyarrow.large_list(pyarrow.float32()), [0.1, 2.5]),
        (pyarrow.list_(pyarrow.float32(), 2), [0.1, 2.5]),
        (pyarrow.struct([("a", pyarrow.list_(pyarrow.float32()))]), {"a": [0.1]}),
        (pyarrow.list_(pyarrow.struct([("a", pyarrow.float32())])), [{"a": 0.1}]),
    ],
    ids=str,
)
def test_32_bit_floats_in_lists_and_tables_hold_what_was_written(kind, value, tmp_path):
    path, column = tmp_path / "d.parquet", pyarrow.array([value], kind)
    pyarrow.parquet.write_table(pyarrow.table({"question": ["2?"], "answer": column}), path)
    assert load_problems(path)[0][0].answer == value


def test_a_path_into_a_column_finds_a_cell_or_is_told(tmp_path):
    rows = [{"a": {"b": ["2+2?"]}, "answer": 4}]
    assert load(tmp_path, *rows, fields={"question": "a.b.0"})[0].question == "2+2?"
    assert (
        load(tmp_path, {"a.b": "q?", "answer": 4}, fields={"question": "a.b"})[0].question == "q?"
    )
    for path in ("a.c", "a.b.1", "a.b.-1", "a.b.\u00b2", "a.b.0.0", "a.b." + "9" * 5000, "x\ny"):
        told = refused(load, tmp_path, *rows, fields={"question": path})
        assert "d.jsonl row 1: no field " in told
    told = refused(load, tmp_path, {"a": None, "answer": 4}, fields={"question": "a.b"})
    assert "empty question" in told


def test_decimals_dates_and_bytes_of_parquet_are_golds(tmp_path):
    values = Decimal("2.00"), Decimal("2.50"), datetime.date(2026, 1, 2), b"7"
    golds = [load_parquet(tmp_path, row(answer=value))[0].answer for value in values]
    assert golds == ["2", "2.5", "2026-01-02", "7"]
    assert number_text(Decimal("100")) == "100"


@pytest.mark.parametrize("read", [load, load_parquet])
@pytest.mark.parametrize("value", [NAN, None, [NAN], [None], [NAN, None]])
def test_a_gold_of_nan_is_a_missing_one(read, value, tmp_path):
    told = refused(read, tmp_path, row(id="r1", answer=value), row(id="r2", answer=value))
    assert "2 rows with empty question or answer: r1 (row 1), r2 (row 2)" in told


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (["4", NAN], "answer[1]: is null"),
        ([None, 4], "answer[0]: is null"),
        (["4", " "], "answer[1]: is empty text"),
        (["4", True], "answer[1] = True: is a truth value"),
        (INF, "answer = inf: needs a finite number"),
        (-INF, "answer = -inf: needs a finite number"),
        ([1.0, INF], "answer[1] = inf: needs a finite number"),
        ([{"function": "f", "args": [NAN]}], "answer[0].args[0] = nan: needs a finite number"),
        ({"expected": {"a": INF}}, "answer.expected.a = inf: needs a finite number"),
        (True, "answer = True: is a truth value"),
        (False, "answer = False: is a truth value"),
    ],
)
def test_a_gold_that_no_answer_can_equal_is_refused_by_row(value, told, tmp_path):
    message = refused(load, tmp_path, row(id="r1"), row(answer=value))
    assert f"d.jsonl row 2: {told}" in message


@pytest.mark.parametrize(
    ("value", "id_"),
    [(7, "7"), (7.0, "7"), (7.5, "7.5"), ("a b", "a b"), (None, "d-0"), (" ", "d-0")],
)
def test_ids_are_text_or_numbers_or_made(value, id_, tmp_path):
    [problem] = load(tmp_path, row(id=value))
    assert (problem.id, problem.own_id) == (id_, id_ != "d-0")


@pytest.mark.parametrize("column", ["id", "source"])
@pytest.mark.parametrize("value", [True, [1], {"a": 1}, INF, NAN])
def test_an_id_or_source_that_is_a_structure_is_refused(column, value, tmp_path):
    told = refused(load, tmp_path, row(**{column: value}))
    assert f"d.jsonl row 1: {column} = " in told
    assert told.endswith("needs text or a number")


@pytest.mark.parametrize(
    ("value", "level"),
    [(5, 5), (5.0, 5), ("Level 5", 5), ("Level ?", None), ("hard", None), (NAN, None), (None, None),
     (-1, -1), ("-1", -1)],
)  # fmt: skip
def test_levels_are_whole_numbers(value, level, tmp_path):
    assert load(tmp_path, row(level=value))[0].level == level


@pytest.mark.parametrize("value", [3.5, "3.5", True, [5], {"a": 5}, INF, 10**30])
def test_a_level_that_is_no_whole_number_is_refused(value, tmp_path):
    told = refused(load, tmp_path, row(level=value))
    assert "d.jsonl row 1: level = " in told
    assert "needs a whole number" in told


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"question": HALF}, "question holds '\\ud83d'"),
        ({"question": None, "messages": [{"role": "user", "content": HALF}]},
         "messages[0].content holds"),
        ({"answer": HALF}, "answer holds"),
        ({"answer": ["4", {"stdout": HALF}]}, "answer[1].stdout holds"),
        ({"answer": {HALF: 1}}, "answer.a \\ud83d b holds"),
        ({"id": HALF}, "id holds"),
        ({"source": HALF}, "source holds"),
        ({"level": HALF}, "level holds"),
        ({"tests": [{"code": HALF}]}, "tests[0].code holds"),
        ({HALF: 1}, "a \\ud83d b holds"),
        ({"question": "\udc00"}, "question holds '\\udc00'"),
        ({"question": "\ude00\ud83d"}, "question holds '\\ude00'"),
    ],
)  # fmt: skip
def test_half_of_a_surrogate_pair_is_refused_in_every_column(changes, place, tmp_path):
    told = refused(load, tmp_path, row(id="r1"), row(**changes))
    assert f"d.jsonl row 2: {place}" in told
    assert told.endswith("half of a surrogate pair, which is not Unicode text")
    told.encode()


def test_a_whole_pair_is_one_character(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"question": "\\ud83d\\ude00?", "answer": "4"}\n')
    assert load_problems(path)[0][0].question == "\U0001f600?"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"question": "a\xff"}', "line 2: not UTF-8 text: invalid start byte"),
        (b'{"question": "\xed\xa0\xbd"}', "line 2: not UTF-8 text: invalid continuation byte"),
        ('{"question": "a"}'.encode("utf-16"), "line 2: not UTF-8 text"),
        pytest.param(b'{"question": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "line 2: ", id="deep"),
        (b'{"x": ' + b"[" * 200 + b"]" * 200 + b', "question": "a"}', "row 2: x[0][0]"),
        (b'{"question": ' + b"9" * 5000 + b"}", "line 2: "),
        (b"null", "line 2: is a NoneType"),
        (b'"text"', "line 2: is a str"),
        (b'{"question": "a", "answer": 1', "line 2: "),
        (b"question,answer", "line 2: "),
    ],
    ids=repr,
)
def test_a_line_that_is_no_row_is_refused_by_its_number(line, told, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(json.dumps(row()).encode() + b"\n" + line + b"\n")
    assert f"d.jsonl {told}" in refused(load_problems, path)


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text("\ufeff" + json.dumps(row()) + "\n\n" + json.dumps(row(id=1, answer=INF)))
    assert "d.jsonl row 3: answer" in refused(load_problems, path)
    path.write_text("\ufeff" + json.dumps(row()) + "\r\n\r\n")
    assert load_problems(path)[0][0].id == "r0"


def test_text_of_parquet_that_is_not_utf8_is_named_by_row(tmp_path):
    asked = pyarrow.array([b"2+2?", b"\xff"]).cast(pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, asked.buffers())
    table = pyarrow.table({"question": text, "answer": ["4", "5"]})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    told = refused(load_problems, tmp_path / "d.parquet")
    assert "d.parquet row 2: question is not readable: 'utf-8' codec" in told


def test_a_folder_names_the_file_of_a_bad_row(tmp_path):
    load(tmp_path, row())
    (tmp_path / "e.jsonl").write_text(json.dumps(row(id="r1", answer=INF)))
    assert f"{tmp_path}/e.jsonl row 1: answer = inf" in refused(load_problems, tmp_path)


@pytest.mark.parametrize(
    ("format_", "changes", "told"),
    [
        ("gsm8k", {"answer": None}, "empty question or answer"),
        ("gsm8k", {"answer": NAN}, "empty question or answer"),
        ("gsm8k", {"answer": ["#### 4"], "question": {"a": 1}}, "data.fields.messages"),
        ("svamp", {"Body": "Two dogs", "Question": ["?"], "Answer": 2}, "Question = ['?']: needs"),
        ("svamp", {"Body": None, "Question": "?", "Answer": 2}, "Body = None: needs text"),
        ("svamp", {"Body": "Two dogs"}, "no column 'Question'; it has"),
        ("gsm_hard", {"input": ["q"], "target": 3}, "data.fields.messages"),
        ("aqua", {"options": "A)1", "correct": "A"}, "options = 'A)1': needs a list of texts"),
        ("aqua", {"options": [1, 2], "correct": "A"}, "options = [1, 2]: needs a list of texts"),
        ("olympiadbench", {"final_answer": [None]}, "final_answer = [None]: needs a list of"),
        ("olympiadbench", {"final_answer": ["1"], "error": "x"}, "row 1: could not convert"),
        ("countdown", {"nums": [3, 5.5], "target": 8}, "nums = 5.5: needs an integer"),
        ("countdown", {"nums": "3 5", "target": 8}, "nums = '3 5': needs a list of integers"),
        ("countdown", {"nums": [3, 5], "target": INF}, "target = inf: needs an integer"),
        ("countdown", {"nums": [3, 5], "target": True}, "target = True: needs an integer"),
    ],
)
def test_a_known_format_never_turns_a_structure_into_text(format_, changes, told, tmp_path):
    message = refused(load, tmp_path, row(**changes), format=format_)
    assert told in message
    assert "d.jsonl" in message


@pytest.mark.parametrize(
    ("policy", "told"),
    [("strict", "policy = 'strict': needs a table"), ({"unit": 1}, "policy.unit: allowed"),
     ({"units": ["ignore"]}, "row 1: "), ({"relative_tolerance": NAN}, "needs a number from 0")],
)  # fmt: skip
def test_a_policy_that_grades_nothing_is_refused_by_row(policy, told, tmp_path):
    assert told in refused(load, tmp_path, row(policy=policy))


def test_ids_with_line_breaks_stay_in_one_line(tmp_path):
    rows = row(id="a\nb"), row(id="a\nb")
    assert "duplicate id: 'a\\nb' (row 2)" in refused(load, tmp_path, *rows)
