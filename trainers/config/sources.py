"""The data sources that a config may name: parsing and checks."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rlnorm.errors import InputError
from rlnorm.rewards.data import hub
from rlnorm.rewards.data.formats import get_format
from rlnorm.rewards.data.hub import HubName
from rlnorm.trainers.config.schema import DataConfig
from rlnorm.trainers.tasks import TASKS

T = TypeVar("T")
_HUB_SOURCE = re.compile(r"(?:(\w+)=)?hf:([^:]*)(?::(.*))?")
ENV_SIZES = {"train": 4096, "test": 256}
"""Number of problem seeds per split of an `env:` source."""
TASK_SIZES = {"train": 8192, "heldout": 512, "hard": 512}
"""Number of problems per split of a `task:` source."""
FILES = (".jsonl", ".json", ".parquet")
"""Suffixes of data files."""
IN_FOLDERS = (".jsonl", ".parquet")
"""Suffixes of the files that are read from a folder; a .json file may be something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HubSource:
    """The parts of `[FORMAT=]hf:OWNER/NAME[@REVISION][/SUBSET][:SPLIT]` or `hf:FORMAT[:SPLIT]`."""

    name: HubName
    format: str | None
    subset: str | None
    split: str | None


def parse_hub_source(source: str) -> HubSource | None:
    """The parts of a hub source; None for any other source.

    Example: `gsm8k=hf:openai/gsm8k/main:train` and `hf:gsm8k:train` name the same rows.
    """
    match = _HUB_SOURCE.fullmatch(source)
    if match is None:
        return None
    data_format, path, split = match.groups()
    if data_format is None and "/" not in path:
        data_format, path = path, get_format(path).hub
    get_format(data_format)  # raises for an unknown format
    repo, subset = (["/".join(path.split("/")[:2]), *path.split("/")[2:], ""])[:2]
    name = hub.parse_name(repo, "dataset")
    if name is None or path.count("/") > 2:
        raise InputError(
            "needs hf:OWNER/NAME[@REVISION][/SUBSET][:SPLIT], or hf:FORMAT[:SPLIT] with the name "
            "of a known data set"
        )
    return HubSource(name=name, format=data_format, subset=subset or None, split=split or None)


def of_key(key: str, value: str, call: Callable[..., T], *args: Any) -> T:
    """Call `call(*args)`; an InputError is raised again with the key and value of the config."""
    try:
        return call(*args)
    except InputError as error:
        raise InputError(f"{key} = {value!r}: {error}") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """One data source of a config."""

    key: str
    """The config key. Example: data.eval.chain."""
    text: str
    """What the key holds. Example: task:chain:heldout."""
    fields: Mapping[str, str]
    name: str = ""
    """Its name among several sources of training prompts; "" for any other."""

    def of_key(self, call: Callable[..., T], *args: Any) -> T:
        """Call `call(*args)`; an InputError is raised again with the key and its value."""
        return of_key(self.key, self.text, call, *args)


def data_sources(config: DataConfig) -> list[DataSource]:
    """The sources of training prompts, then those of the benchmarks."""
    found = []
    for name, train in config.train_sources().items():
        fields = config.fields if train.fields is None else train.fields
        key = f"data.train.{name}.source" if name else "data.train"
        found.append(DataSource(key=key, text=train.source, fields=fields, name=name))
    for name, text in config.eval.items():
        found.append(DataSource(key=f"data.eval.{name}", text=text, fields=config.fields))
    return found


def local_files(source: DataSource) -> list[Path]:
    """The files that a source on this machine is read from, in order; [] for any other source."""
    if parse_hub_source(source.text) is not None:
        return []
    path = Path(source.text.partition("=")[2] or source.text)
    try:
        if path.is_dir():
            return sorted(p for p in path.iterdir() if p.suffix in IN_FOLDERS)
        return [path] if path.is_file() else []
    except OSError as error:
        raise InputError(f"{source.key} = {source.text!r}: {error.strerror}") from error


def check_source(source: str, turns: bool) -> None:
    """Check that a data source names a known task, split or data format, or an existing file.

    turns: True with rollout.environment, which brings its own problems.
    """
    kind, _, rest = source.partition(":")
    if turns or kind == "env":
        if not turns:
            raise InputError("needs rollout.environment, which provides these problems")
        if kind != "env" or rest not in ENV_SIZES:
            raise InputError("with rollout.environment choose env:train or env:test")
    elif kind == "task":
        name, _, split = rest.partition(":")
        if name not in TASKS:
            raise InputError(f"choose a task from {', '.join(sorted(TASKS))}")
        if split and split not in TASK_SIZES:
            raise InputError(f"choose a split from {', '.join(TASK_SIZES)}")
    elif parse_hub_source(source) is None:
        data_format, equals, path = source.partition("=")
        if equals:
            get_format(data_format)
        if equals and not path:
            raise InputError(f"names no file; {data_format} from the hub is hf:{data_format}:SPLIT")
        if not source.strip():
            raise InputError(f"is empty; name a file, hf:OWNER/NAME or task:{next(iter(TASKS))}")
        _check_file(path if equals else source)


def _check_file(name: str) -> None:
    path = Path(name)
    try:
        if path.is_dir():
            if not any(file.suffix in IN_FOLDERS for file in path.iterdir()):
                raise InputError(f"the folder has no {' or '.join(IN_FOLDERS)} file")
            return
    except OSError as error:  # no permission, or a name too long for the file system
        raise InputError(error.strerror) from error
    if path.suffix not in FILES and (path.exists() or hub.parse_name(name, "dataset") is None):
        raise InputError(
            f"needs a file ending in {', '.join(FILES)}, a folder of them, hf:OWNER/NAME or "
            f"task:{next(iter(TASKS))}"
        )
    if path.suffix in FILES and not path.is_file():
        raise InputError(f"no such file {path}")
