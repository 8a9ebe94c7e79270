"""Whatever a data file holds, loading it gives rows or an error of one line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlnorm.errors import InputError
from rlnorm.rewards.data.formats import FORMATS
from rlnorm.rewards.data.problems import ProblemRow, load_problems

SUITE = settings(max_examples=300, derandomize=True, deadline=None, database=None)
NIGHTLY = settings(max_examples=10_000, deadline=None, database=None)

letters = st.text(st.characters(exclude_categories=()), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | letters
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]) | scalars})
    | st.fixed_dictionaries({"role": st.just("user"), "content": scalars}),
    max_size=3,
)
values = (
    scalars
    | messages
    | st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(letters, inner, max_size=3),
        max_leaves=6,
    )
)
questions = st.sampled_from(["What is 2+2?", "How many are left?"]) | values
golds = st.sampled_from(["4", 4, "\\frac{1}{2}", ["4", "5"], "B"]) | values
COLUMNS = sorted(
    {
        name.split(".")[0]
        for data_format in FORMATS.values()
        for group in ("question", "answer", "id", "level", "source", "messages")
        for name in getattr(data_format, group)
    }
    | {"Body", "options", "correct", "nums", "target", "input", "policy", "context", "error"}
)
sound = {"question": st.just("What is 2+2?"), "answer": st.just("4")}
rows = (
    st.dictionaries(st.sampled_from(COLUMNS) | letters, values, max_size=4)
    | st.fixed_dictionaries(sound | {"question": questions})
    | st.fixed_dictionaries(sound | {"answer": golds})
    | st.tuples(st.fixed_dictionaries(sound), st.sampled_from(COLUMNS), values).map(
        lambda parts: parts[0] | {parts[1]: parts[2]}
    )
)
lines = rows.map(json.dumps) | values.map(json.dumps) | letters.map(ascii)
files = st.lists(lines, min_size=1, max_size=4)
options = st.fixed_dictionaries(
    {"on_bad": st.sampled_from(["error", "drop"])},
    optional={
        "format": st.sampled_from(sorted(FORMATS)),
        "fields": st.dictionaries(
            st.sampled_from(["question", "answer", "id", "messages", "x"]),
            st.sampled_from(["", "question", "answer", "messages", "prompt.0.content"]) | letters,
            max_size=2,
        ),
        "audit": st.booleans(),
        "split": st.just("test"),
    },
)


def outcome(path, options):
    """The rows and the report, or the text of the error."""
    try:
        return load_problems(path, **options)
    except InputError as error:
        return str(error)


def gives_rows_or_one_line(path, lines, options):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = outcome(path, options)
    if isinstance(found, str):
        assert path.name in found or found.startswith("fields")
        assert found.isprintable()
        return
    rows, report = found
    assert rows
    assert report.kept == len(rows) <= report.read
    for row in rows:
        assert isinstance(row, ProblemRow)
        assert row.question.strip()
        stored = [row.id, row.question, row.answer, row.source, list(row.messages)]
        json.dumps(stored, ensure_ascii=False, allow_nan=False).encode()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("data") / "rows.jsonl"


@SUITE
@given(lines=files, options=options)
def test_any_file_gives_rows_or_one_line(path, lines, options):
    gives_rows_or_one_line(path, lines, options)


@pytest.mark.nightly
@NIGHTLY
@given(lines=files, options=options)
def test_many_files_give_rows_or_one_line(path, lines, options):
    gives_rows_or_one_line(path, lines, options)


def test_a_column_of_countdown_that_is_also_the_id(path):
    row = {"nums": [3, 5], "target": 8}
    options = {"format": "countdown", "fields": {"id": "target"}}
    gives_rows_or_one_line(path, [json.dumps(row)], options)
