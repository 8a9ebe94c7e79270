"""Rows of data that cannot be trained on, as training data and as a benchmark."""

import io
import json
from typing import Any

from malformed.case import Malformed

GOOD = '{"id": "one", "question": "1+1", "answer": "2"}\n'
NAN, INFINITY, SURROGATE = float("nan"), float("inf"), "a\ud800b"
NOT_TEXT: dict[str, Any] = {
    "list-of-text": ["a", "b"],
    "table": {"text": "2+2"},
    "empty-list": [],
    "truth-value": True,
    "nan": NAN,
    "null": None,
    "empty": "",
    "spaces": " \n\t",
    "surrogate": SURROGATE,
    "sharegpt": [{"from": "human", "value": "2+2"}],
    "message-without-content": [{"role": "user"}],
    "message-without-role": [{"content": "2+2"}],
    "message-with-number": [{"role": "user", "content": 5}],
    "message-with-null": [{"role": "user", "content": None}],
    "message-with-surrogate": [{"role": "user", "content": SURROGATE}],
    "message-of-unknown-role": [{"role": "wizard", "content": "2+2"}],
    "pairs": [["user", "2+2"]],
    "ends-with-assistant": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ],
    "nested-list": [[{"role": "user", "content": "2+2"}]],
}
NO_GOLD: dict[str, Any] = {
    "nan": NAN,
    "null": None,
    "empty": "",
    "spaces": "  ",
    "infinity": INFINITY,
    "minus-infinity": -INFINITY,
    "empty-list": [],
    "list-of-nan": [NAN],
    "list-with-nan": ["2", NAN],
    "list-of-null": [None],
    "empty-table": {},
    "surrogate": SURROGATE,
    "list-with-surrogate": ["2", SURROGATE],
    "table-with-surrogate": {"a": SURROGATE},
    "table-with-nan": {"a": NAN},
}
NOT_NAMES: dict[str, Any] = {"table": {"a": 1}, "list": [1], "nan": NAN, "surrogate": SURROGATE}
LINES: dict[str, bytes] = {
    "not-json": b"question: 1+1\n",
    "cut-off": b'{"question": "1+1", "ans',
    "list": b'["1+1", "2"]\n',
    "number": b"7\n",
    "text": b'"1+1"\n',
    "null": b"null\n",
    "two-objects": b'{"question": "a", "answer": "b"} {"question": "c"}\n',
    "bytes": b'{"question": "\xff\xfe", "answer": "2"}\n',
    "single-quotes": b"{'question': '1+1', 'answer': '2'}\n",
    "trailing-comma": b'{"question": "1+1", "answer": "2",}\n',
    "no-question": b'{"answer": "2"}\n',
    "no-answer": b'{"question": "1+1"}\n',
    "other-columns": b'{"text": "1+1", "label": "2"}\n',
    "empty-object": b"{}\n",
}


def _row(**changes: Any) -> bytes:
    row = {"id": "two", "question": "2+3", "answer": "5"} | changes
    return (GOOD + json.dumps(row) + "\n").encode()


def _file(name: str, content: bytes, names: list[str], fields: str = "") -> list[Malformed]:
    """The same rows as training data and as a benchmark."""
    suffix = "parquet" if content[:4] == b"PAR1" else "jsonl"
    file, more = f"rows.{suffix}", [fields] if fields else []
    cases = []
    for place in ("data.train", "data.eval.mine"):
        other = ["data.eval={}"] if place == "data.train" else []
        cases.append(
            Malformed(
                name=f"{place}/{name}",
                arguments=[*other, *more, f"{place}={file}"],
                files={file: content},
                names=[rf"{file}", *names],
            )
        )
    return cases


def _parquet(columns: dict[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def json_rows() -> list[Malformed]:
    """One wrong value in the second row of a .jsonl file."""
    cases = []
    for name, value in NOT_TEXT.items():
        cases += _file(f"question/{name}", _row(question=value), [r"row 2|two|question"])
        cases += _file(
            f"fields.question/{name}",
            _row(question="x", prompt=value).replace(b'"question": "1+1"', b'"prompt": "1+1"'),
            [r"row 2|two|prompt"],
            "data.fields={question: prompt}",
        )
    for name, value in NO_GOLD.items():
        cases += _file(f"answer/{name}", _row(answer=value), [r"row 2|two|answer"])
    for column in ("id", "source"):
        for name, value in NOT_NAMES.items():
            cases += _file(f"{column}/{name}", _row(**{column: value}), [r"row 2|two", column])
    for name, line in LINES.items():
        cases += _file(f"line/{name}", GOOD.encode() + line, [r"(row|line) 2"])
    return cases


def files() -> list[Malformed]:
    """Files without a usable row, and Parquet files."""
    twice = {"id": ["one", "two"], "question": ["1+1", "2+3"]}
    cases = [
        *_file("empty", b"", []),
        *_file("blank-lines", b"\n\n  \n", []),
        *_file("same-id", _row(id="one"), ["one"]),
        *_file("parquet/nan", _parquet(twice | {"answer": [2.0, NAN]}), [r"row 2|two"]),
        *_file("parquet/null", _parquet(twice | {"answer": ["2", None]}), [r"row 2|two"]),
        *_file(
            "parquet/binary",
            _parquet(twice | {"answer": [b"2", b"\xff\xfe"]}),
            [r"row 2|two|UTF-8"],
        ),
        *_file("parquet/truncated", _parquet(twice | {"answer": ["2", "5"]})[:200], []),
        *_file(
            "parquet/list-of-text",
            _parquet({"id": ["one", "two"], "question": [["a"], ["b"]], "answer": ["2", "5"]}),
            [r"row 1|one"],
        ),
    ]
    for name, source in {
        "missing": "nowhere.jsonl",
        "missing-parquet": "nowhere.parquet",
        "suffix": "rows.csv",
        "empty": "",
        "s3": "s3://bucket/rows.jsonl",
        "gs": "gs://bucket/rows.parquet",
        "file": "file:///tmp/rows.jsonl",
        "http": "https://host/rows.jsonl",
        "unknown-task": "task:chainz",
        "unknown-split": "task:chain:tset",
        "unknown-format": "gsm9k=rows.jsonl",
        "hub": "hf:",
        "environment": "env:train",
        "home": "~/nowhere/rows.jsonl",
    }.items():
        for place in ("data.train", "data.eval.mine"):
            cases.append(
                Malformed(
                    name=f"{place}/source/{name}", arguments=[f"{place}={source}"], names=[place]
                )
            )
    return cases


CASES = [*json_rows(), *files()]
