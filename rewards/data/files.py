"""Raw rows of JSONL and Parquet files, folders of them and hub data sets, as they are stored."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlnorm.errors import InputError
from rlnorm.rewards.data.formats import DataFormat
from rlnorm.rewards.data.hub import HubName, dataset_rows, parse_name

_SUFFIXES = (".jsonl", ".json", ".parquet")
_ONE_PER_LINE = "needs one JSON object per line, not a list around them"


def read_rows(
    where: str, data_format: DataFormat, subset: str | None, split: str | None
) -> Iterator[Mapping[str, Any]]:
    """The rows of a file, of a folder's files in order, or of a hub data set."""
    path = Path(where)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".jsonl", ".parquet"))
        if split is not None:
            files = [p for p in files if p.stem == split or p.stem.startswith(f"{split}-")]
        if not files:
            raise InputError(f"{path}: has no {split or '*'}.jsonl or .parquet")
        for file in files:
            yield from _read_file(file)
    elif path.is_file():
        yield from _read_file(path)
    elif path.suffix not in _SUFFIXES and (name := parse_name(where, "dataset")):
        yield from _read_hub(name, data_format, subset, split)
    else:
        raise InputError(f"{where}: no such file, folder or hub id (owner/name)")


def _read_file(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        try:
            yield from pyarrow.parquet.read_table(path).to_pylist()
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable as Parquet: {error}") from error
        return
    if path.suffix not in _SUFFIXES:
        raise InputError(f"{path}: allowed are .jsonl and .parquet files")
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            # the decoder sees one line at a time, so it always reports line 1
            reason = str(error).replace(": line 1 column", " at column")
            raise InputError(f"{path} line {number}: {reason}: {_ONE_PER_LINE}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number}: is a {type(row).__name__}: {_ONE_PER_LINE}")
        yield row


def _read_hub(
    name: HubName, data_format: DataFormat, subset: str | None, split: str | None
) -> Iterator[Mapping[str, Any]]:
    known = name.repo == data_format.hub
    subset = subset or (data_format.subset if known else None)
    wanted = split or (data_format.split if known else "train")
    try:
        yield from dataset_rows(name, subset, wanted)
    except InputError as error:
        raise InputError(f"{name} (split {wanted!r}): {error}") from error
