"""Every data format by name from a hub: repository, subset, split and columns as on its page."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pyarrow
import pyarrow.parquet
import pytest

from rlnorm.rewards.data.formats import FORMATS

LOAD = """
import dataclasses, json, sys
from rlnorm.trainers.config.rows import read_rows
from rlnorm.trainers.config.sources import DataSource
out = {}
for name in sys.argv[1:]:
    source = DataSource(key="data.train", text=f"hf:{name}", fields={})
    [row], _ = read_rows(source)
    out[name] = dataclasses.asdict(row)
json.dump(out, sys.stdout)
"""


@dataclass(frozen=True)
class Shape:
    """One made-up row in the columns of the page, the file that holds it, and the gold read."""

    file: str
    row: dict
    answer: str
    readme: str = ""


def configs(name, split, path):
    data_files = [{"split": split, "path": path}]
    table = {"configs": [{"config_name": name, "data_files": data_files}]}
    return f"---\n{json.dumps(table)}\n---\n"


OLYMPIAD = "OE_TO_maths_en_COMP"
SHAPES = {
    "gsm8k": Shape(
        "main/test-00000-of-00001.parquet",
        {"question": "q?", "answer": "2+2=<<2+2=4>>4\n#### 4"},
        "4",
        configs("main", "test", "main/test-*"),
    ),
    "svamp": Shape(
        "test.json",
        {"ID": "c1", "Type": "t", "Body": "Two dogs", "Question": "How many?", "Answer": "2.0"},
        "2.0",
    ),
    "gsm_hard": Shape("gsmhardv2.jsonl", {"input": "q?", "code": "", "target": -21.5}, "-21.5"),
    "aqua": Shape(
        "raw/test-00000-of-00001.parquet",
        {"question": "q?", "options": ["A)1", "B)2"], "rationale": "", "correct": "B"},
        "B",
        configs("raw", "test", "raw/test-*"),
    ),
    "olympiadbench": Shape(
        f"{OLYMPIAD}/{OLYMPIAD}.parquet",
        {
            "id": 3,
            "question": "q?",
            "solution": ["s"],
            "final_answer": ["$1$, $2$"],
            "context": "Let $x$ be 1.",
            "error": None,
            "is_multiple_answer": True,
        },
        "$1$, $2$",
        configs(OLYMPIAD, "train", f"{OLYMPIAD}/*.parquet"),
    ),
    "countdown": Shape("data/train-00000-of-00001.parquet", {"target": 8, "nums": [3, 5]}, "8"),
    "math500": Shape(
        "test.jsonl",
        {
            "problem": "q?",
            "solution": "s",
            "answer": "\\frac{1}{2}",
            "subject": "Algebra",
            "level": 5,
            "unique_id": "test/algebra/1.json",
        },
        "\\frac{1}{2}",
    ),
    "aime24": Shape(
        "data/train-00000-of-00001.parquet",
        {"id": 60, "problem": "q?", "solution": "s", "answer": "204", "url": "u", "year": "2024"},
        "204",
        configs("default", "train", "data/train-*"),
    ),
    "aime25": Shape(
        "test.jsonl",
        {"problem": "q?", "answer": "70", "id": "0"},
        "70",
        configs("default", "test", "test.jsonl"),
    ),
    "amc23": Shape(
        "test-00000-of-00001.parquet",
        {"id": 0, "question": "q?", "answer": "27", "url": "u"},
        "27",
    ),
    "minerva": Shape("test.jsonl", {"question": "q?", "answer": "4.5e33"}, "4.5e33"),
    "dapo_math_17k": Shape(
        "data/dapo-math-17k.parquet",
        {
            "data_source": "math_dapo",
            "prompt": [{"content": "q?", "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": "34", "style": "rule"},
            "extra_info": {"index": "9a9b6eb4"},
        },
        "34",
        configs("default", "train", "data/dapo-math-17k.parquet"),
    ),
}


def content(shape):
    if not shape.file.endswith(".parquet"):
        return json.dumps(shape.row)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([shape.row]), buffer)
    return buffer.getvalue()


@pytest.mark.slow
def test_every_format_reads_the_shape_of_its_page_from_the_hub(hub, tmp_path):
    assert SHAPES.keys() == FORMATS.keys()
    for name, shape in SHAPES.items():
        hub.add("dataset", FORMATS[name].hub, {shape.file: content(shape)})
        hub.add("dataset", FORMATS[name].hub, {"README.md": shape.readme or "# a data set"})
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    result = subprocess.run(
        [sys.executable, "-c", LOAD, *SHAPES],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | environment,
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {name: row["answer"] for name, row in rows.items()} == {
        name: shape.answer for name, shape in SHAPES.items()
    }
    assert all(row["question"] for row in rows.values())
    assert rows["olympiadbench"]["question"] == "Let $x$ be 1.\n\nq?"
    assert (rows["math500"]["id"], rows["math500"]["level"]) == ("test/algebra/1.json", 5)
    assert rows["dapo_math_17k"]["id"] == "9a9b6eb4"
    assert rows["countdown"]["meta"]["nums"] == [3, 5]
