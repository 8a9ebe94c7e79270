"""The data sources that a config may name: parsing and checks."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rlnorm.errors import InputError
from rlnorm.rewards.data import hub
from rlnorm.rewards.data.formats import get_format
from rlnorm.rewards.data.hub import HubName
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.tasks import TASKS

T = TypeVar("T")
_HUB_SOURCE = re.compile(r"(?:(\w+)=)?hf:([^:]*)(?::(.*))?")
ENV_SIZES = {"train": 4096, "test": 256}
"""Number of problem seeds per split of an `env:` source."""
TASK_SIZES = {"train": 8192, "heldout": 512, "hard": 512}
"""Number of problems per split of a `task:` source."""
FILES = (".jsonl", ".json", ".parquet")
"""Suffixes of data files."""


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


def data_sources(config: Config) -> dict[str, str]:
    """The sources of the training data and of the benchmarks, by config key."""
    benchmarks = {f"data.eval.{name}": source for name, source in config.data.eval.items()}
    return {"data.train": config.data.train, **benchmarks}


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
        _check_file(path if equals else source)


def _check_file(name: str) -> None:
    path = Path(name)
    if path.is_dir():
        return
    if path.suffix not in FILES and (path.exists() or hub.parse_name(name, "dataset") is None):
        raise InputError(
            f"needs a file ending in {', '.join(FILES)}, a folder of them, hf:OWNER/NAME or "
            f"task:{next(iter(TASKS))}"
        )
    if path.suffix in FILES and not path.is_file():
        raise InputError(f"no such file {path}")
