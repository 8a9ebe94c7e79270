"""Raw rows of JSONL and Parquet files, folders of them and hub data sets, as they are stored."""

import codecs
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
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place ("FILE row 7") and row of a file, of a folder's files in order, or of a hub data set.

    A row of a .jsonl file is counted by its line.
    """
    path = Path(where)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        files = _files_of(path, split) if is_folder else [path]
    except OSError as error:  # no permission, or a name too long for the file system
        raise InputError(f"{where}: {error.strerror}") from error
    if is_folder or is_file:
        for file in files:
            yield from _read_file(file)
    elif path.suffix not in _SUFFIXES and (name := parse_name(where, "dataset")):
        yield from _read_hub(name, data_format, subset, split)
    else:
        raise InputError(f"{where}: no such file, folder or hub id (owner/name)")


def _files_of(folder: Path, split: str | None) -> list[Path]:
    files = sorted(p for p in folder.iterdir() if p.suffix in (".jsonl", ".parquet"))
    if split is not None:
        files = [p for p in files if p.stem == split or p.stem.startswith(f"{split}-")]
    if not files:
        raise InputError(f"{folder}: has no {split or '*'}.jsonl or .parquet")
    return files


def _read_file(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix not in _SUFFIXES:
        raise InputError(f"{path}: allowed are .jsonl and .parquet files")
    rows = _read_parquet if path.suffix == ".parquet" else _read_json_lines
    try:
        for number, row in rows(path):
            yield f"{path} row {number}", row
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _read_json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            # decoded here: json would take bytes of half a surrogate pair, and guess UTF-16
            row = json.loads(line.decode())
        except UnicodeDecodeError as error:
            raise InputError(f"{path} line {number}: not UTF-8 text: {error.reason}") from error
        except (ValueError, RecursionError) as error:
            # the decoder sees one line at a time, so it always reports line 1
            reason = str(error).replace(": line 1 column", " at column")
            raise InputError(f"{path} line {number}: {reason}: {_ONE_PER_LINE}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number}: is a {type(row).__name__}: {_ONE_PER_LINE}")
        yield number, row


def _read_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as Parquet: {_one_line(error)}") from error
    for index, field in enumerate(table.schema):
        # by way of text: 0.1 in 32 bits is 0.1, not 0.10000000149011612
        texts = _with_floats_as(pyarrow.string(), field.type)
        if texts != field.type:
            doubles = _with_floats_as(pyarrow.float64(), field.type)
            column = table.column(index).cast(texts).cast(doubles)
            table = table.set_column(index, field.name, column)
    number = 0
    for batch in table.to_batches(max_chunksize=1024):
        try:
            rows = batch.to_pylist()
        except (pyarrow.ArrowException, ArithmeticError, ValueError):
            rows = [
                _parquet_row(batch, i, f"{path} row {number + i + 1}") for i in range(len(batch))
            ]
        for row in rows:
            number += 1
            yield number, row


def _with_floats_as(leaf: Any, kind: Any) -> Any:
    """The type of a column with its floats of less than 64 bits, at any depth, as type `leaf`."""
    import pyarrow

    types = pyarrow.types
    if types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return pyarrow.struct([f.with_type(_with_floats_as(leaf, f.type)) for f in fields])
    if types.is_list(kind):
        return pyarrow.list_(_with_floats_as(leaf, kind.value_type))
    if types.is_large_list(kind):
        return pyarrow.large_list(_with_floats_as(leaf, kind.value_type))
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(_with_floats_as(leaf, kind.value_type), kind.list_size)
    if types.is_map(kind):
        return pyarrow.map_(kind.key_type, _with_floats_as(leaf, kind.item_type))
    return leaf if types.is_floating(kind) and kind.bit_width < 64 else kind


def _parquet_row(batch: Any, index: int, at: str) -> Mapping[str, Any]:
    """One row of a batch in which a value has no form in Python, such as bytes in a text column."""
    import pyarrow

    for column in batch.column_names:
        try:
            batch.column(column)[index].as_py()
        except (pyarrow.ArrowException, ArithmeticError, ValueError) as error:
            raise InputError(f"{at}: {column} is not readable: {_one_line(error)}") from error
    [row] = batch.slice(index, 1).to_pylist()
    return dict(row)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read_hub(
    name: HubName, data_format: DataFormat, subset: str | None, split: str | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    known = name.repo == data_format.hub
    subset = subset or (data_format.subset if known else None)
    wanted = split or (data_format.split if known else "train")
    try:
        for number, row in enumerate(dataset_rows(name, subset, wanted), start=1):
            yield f"{name} (split {wanted!r}) row {number}", row
    except InputError as error:
        raise InputError(f"{name} (split {wanted!r}): {error}") from error
