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
rows = st.dictionaries(
    st.sampled_from(COLUMNS) | letters, values, max_size=4
) | st.fixed_dictionaries(
    {"question": questions, "answer": golds},
    optional={name: values for name in COLUMNS if name not in ("question", "answer")},
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


def gives_rows_or_one_line(path, lines, options):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        found, report = load_problems(path, **options)
    except InputError as error:
        assert str(error)
        assert "\n" not in str(error)
        return
    assert found
    assert report.kept == len(found) <= report.read
    for row in found:
        assert isinstance(row, ProblemRow)
        assert row.question.strip()
        json.dumps([row.id, row.question, row.answer, row.source]).encode()


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
