"""Where each known data set keeps its question and answer, and how its answers are compared.

No data is shipped: a format reads the user's own copy or the hub. Column names are from each data
set's page on the hub; a data set with several layouts lists all of them. They were not checked
against the hub's files: the tests serve files of these layouts.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rlnorm.errors import InputError
from rlnorm.lookup import choices
from rlnorm.rewards.data.conversation import shown

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFormat:
    """Columns are tried in order; a dot descends into tables and lists (`prompt.0.content`)."""

    hub: str = ""
    subset: str | None = None
    split: str = "test"
    question: tuple[str, ...] = ("question", "problem", "Problem", "Question")
    answer: tuple[str, ...] = ("answer", "Answer", "final_answer")
    id: tuple[str, ...] = ("id", "unique_id", "ID", "uid")
    level: tuple[str, ...] = ("level",)
    source: tuple[str, ...] = ("source",)
    messages: tuple[str, ...] = ("messages",)
    """Columns that hold a conversation, used if none of `question` exists."""
    convert: Callable[[Row], Row] | None = None
    """Converts a stored row to one with the columns above."""
    verifier: Literal["math", "choice", "countdown", ""] = "math"
    """The verifier that its golds are meant for; "" if unknown."""
    meta: tuple[str, ...] = ()
    """Columns that its verifier reads, whatever else they are read as."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    on_duplicate: Literal["error", "drop"] = "error"


def _text(row: Row, column: str) -> str:
    if not isinstance(row[column], str):
        raise ValueError(f"{column} = {shown(row[column])}: needs text")
    return str(row[column])


def _integer(value: Any, name: str) -> int:
    """An integer from a number or its digits; 7.0 is 7, and 7.5 an error."""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,300}\s*", value):
        return int(value)
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise ValueError(f"{name} = {shown(value)}: needs an integer")
    return int(value)


def _gsm8k(row: Row) -> Row:
    """The hub's answer is a worked solution that ends in `#### 72`."""
    answer = row.get("answer")
    if not isinstance(answer, str):
        return row
    return {**row, "answer": answer.rpartition("####")[2].strip().replace(",", "")}


def _svamp(row: Row) -> Row:
    if "Body" not in row:
        return row
    body = _text(row, "Body").strip()
    question = f"{body}{'' if body.endswith(('.', '?')) else '.'} {_text(row, 'Question')}"
    return {**row, "question": question, "answer": row["Answer"]}


def _gsm_hard(row: Row) -> Row:
    return {**row, "question": row["input"], "answer": row["target"]} if "input" in row else row


def _aqua(row: Row) -> Row:
    if "options" not in row:
        return row
    options = row["options"]
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise ValueError(f"options = {shown(options)}: needs a list of texts")
    question = "\n".join([_text(row, "question"), "Answer choices:", *options])
    return {**row, "question": question, "answer": row["correct"]}


_TOLERANCE = re.compile(r"\btol=([0-9.eE+-]+)")


def _olympiadbench(row: Row) -> Row:
    answer = row.get("final_answer", row.get("answer"))
    if isinstance(answer, list):
        if not all(isinstance(a, str) for a in answer):
            raise ValueError(f"final_answer = {shown(answer)}: needs a list of texts")
        answer = ", ".join(answer)
    stated = _TOLERANCE.search(str(row.get("source", "")))
    error = row.get("error") or (stated[1] if stated else None)
    if isinstance(error, float) and math.isnan(error):  # an empty cell of a column of numbers
        error = None
    if not isinstance(error, str | int | float | None):
        raise ValueError(f"error = {shown(error)}: needs a number")
    policy = {"absolute_tolerance": float(error)} if error else {}
    out = {**row, "answer": answer, "policy": policy}
    if row.get("context"):  # text that some questions refer to, in a column of its own
        out["question"] = f"{_text(row, 'context')}\n\n{_text(row, 'question')}"
    return out


_COUNTDOWN = re.compile(r"nums=(\[\d+(?:, *\d+)*\]);\s*target=(-?\d+)")


def _countdown(row: Row) -> Row:
    """nums and target are columns on the hub, part of `source` in generated files."""
    out = dict(row)
    if "nums" not in row:
        stated = _COUNTDOWN.search(str(row.get("source", "")))
        if stated is None:
            raise ValueError("has neither nums and target nor `nums=[...]; target=...` in source")
        out |= {"nums": json.loads(stated[1]), "target": int(stated[2])}
    if not isinstance(out["nums"], list):
        raise ValueError(f"nums = {shown(out['nums'])}: needs a list of integers")
    nums = [_integer(n, "nums") for n in out["nums"]]
    target = _integer(out["target"], "target")
    question = (
        f"Using the numbers {nums}, create an equation that equals {target}. You may use +, -, *"
        " and / and brackets, and each number exactly once."
    )
    return {"question": question, "answer": str(target), **out, "nums": nums, "target": target}


_AIME = {"question": ("problem", "Problem", "question"), "answer": ("answer", "Answer")}
FORMATS: dict[str, DataFormat] = {
    "gsm8k": DataFormat(hub="openai/gsm8k", subset="main", convert=_gsm8k),
    "svamp": DataFormat(hub="ChilleD/SVAMP", convert=_svamp),
    "gsm_hard": DataFormat(
        hub="reasoning-machines/gsm-hard",
        split="train",
        convert=_gsm_hard,
        policy={"relative_tolerance": 1e-4},
    ),
    "aqua": DataFormat(hub="deepmind/aqua_rat", subset="raw", convert=_aqua, verifier="choice"),
    "olympiadbench": DataFormat(
        hub="Hothan/OlympiadBench",
        subset="OE_TO_maths_en_COMP",
        split="train",
        convert=_olympiadbench,
        policy={"units": "ignore"},
    ),
    "countdown": DataFormat(
        hub="Jiayi-Pan/Countdown-Tasks-3to4",
        split="train",
        convert=_countdown,
        verifier="countdown",
        meta=("nums", "target"),
    ),
    "math500": DataFormat(hub="HuggingFaceH4/MATH-500", question=("problem",), answer=("answer",)),
    "aime24": DataFormat(hub="HuggingFaceH4/aime_2024", split="train", **_AIME),  # type: ignore[arg-type]  # columns only
    "aime25": DataFormat(hub="math-ai/aime25", **_AIME),  # type: ignore[arg-type]  # columns only
    "amc23": DataFormat(hub="math-ai/amc23"),
    "minerva": DataFormat(hub="math-ai/minervamath", policy={"relative_tolerance": 0.01}),
    "dapo_math_17k": DataFormat(
        hub="BytedTsinghua-SIA/DAPO-Math-17k",
        split="train",
        question=("prompt.0.content", "question"),
        answer=("reward_model.ground_truth", "answer"),
        id=("extra_info.index", "id"),
        on_duplicate="drop",  # the hub's copy holds each problem about a hundred times
    ),
}


def get_format(name: str | None) -> DataFormat:
    """The named format; for None the plain columns id, question (or messages), answer, source,
    level."""
    if name is None:
        return DataFormat(verifier="")
    if name not in FORMATS:
        raise InputError(f"format = {name!r}: {choices(name, FORMATS)}")
    return FORMATS[name]
