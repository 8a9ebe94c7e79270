"""What can be told of a config in a blink: the checks that come before any heavy import."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rewards import hub
from rewards.errors import InputError
from rewards.hub import HubName
from rewards.presets import get_preset
from rewards.registry import load_rewards
from rewards.scorer import Alarm, Scorer
from trainers.config import Config, ModelConfig

if TYPE_CHECKING:
    from rlnorm.algorithms import Algorithm

log = logging.getLogger(__name__)


T = TypeVar("T")
_HUB_SOURCE = re.compile(r"(?:(\w+)=)?hf:([^:]*)(?::(.*))?")


def precheck(config: Config) -> None:
    """Model, data, rewards and algorithm, the cheapest first; the hub is asked, not yet read."""
    model = _local_or_hub(config.model.path)
    sources = {"data.train": config.data.train}
    sources |= {f"data.eval.{name}": source for name, source in config.data.eval.items()}
    found = {key: of_key(key, source, parse_hub_source, source) for key, source in sources.items()}
    for key, source in sources.items():
        of_key(key, source, _check_source, source)
    if config.learner.backend == "embedded" and config.model.dtype == "bfloat16":
        raise InputError(
            "model.dtype = 'bfloat16' with learner.backend: embedded: small updates are lost in "
            "bfloat16 weights; use float32, or deepspeed, which keeps a float32 copy of them"
        )
    build_scorer(config)
    build_algorithm(config)
    if isinstance(model, HubName):
        of_key("model.path", config.model.path, hub.check, model)
    for key, data in found.items():
        if data is not None:
            of_key(key, sources[key], hub.check, data.name)


def model_path(path: str) -> str:
    """The local folder of a model: a hub id is downloaded unless it is in the cache."""
    found = _local_or_hub(path)
    if isinstance(found, HubName):
        return str(of_key("model.path", path, hub.model_folder, found))
    return found


def pinned_model(config: ModelConfig) -> ModelConfig:
    """The same model, a hub id with its commit: every process of a cluster reads the same files,
    each from its own node's cache."""
    found = _local_or_hub(config.path)
    if isinstance(found, HubName):
        found = of_key("model.path", config.path, hub.pinned, found)
    return config.model_copy(update={"path": found})


@dataclass(frozen=True, kw_only=True, slots=True)
class HubSource:
    """`[PRESET=]hf:OWNER/NAME[@REVISION][/SUBSET][:SPLIT]` or `hf:PRESET[:SPLIT]`, taken apart."""

    name: HubName
    preset: str | None
    subset: str | None
    split: str | None


def parse_hub_source(source: str) -> HubSource | None:
    """None for a source that is no hub data set.

    Example: `gsm8k=hf:openai/gsm8k/main:train` and `hf:gsm8k:train` name the same rows.
    """
    match = _HUB_SOURCE.fullmatch(source)
    if match is None:
        return None
    preset, path, split = match.groups()
    if preset is None and "/" not in path:
        preset, path = path, get_preset(path).hub
    get_preset(preset)  # a misspelt one is told here
    repo, subset = (["/".join(path.split("/")[:2]), *path.split("/")[2:], ""])[:2]
    name = hub.parse_name(repo, "dataset")
    if name is None or path.count("/") > 2:
        raise InputError(
            "needs hf:OWNER/NAME[@REVISION][/SUBSET][:SPLIT], or hf:PRESET[:SPLIT] with the name "
            "of a known data set"
        )
    return HubSource(name=name, preset=preset, subset=subset or None, split=split or None)


def of_key(key: str, value: str, call: Callable[..., T], *args: Any) -> T:
    """Call; an error is told with the key of the config that it belongs to."""
    try:
        return call(*args)
    except InputError as error:
        raise InputError(f"{key} = {value!r}: {error}") from error


def _local_or_hub(path: str) -> str | HubName:
    """A folder or hub id; `shipped:NAME` names a checkpoint that comes with rlnorm."""
    if path.startswith("shipped:"):
        from trainers.tasks import shipped_model

        return str(shipped_model(path.removeprefix("shipped:")))
    looks_local = path.startswith((".", "/", "~")) or path.count("/") != 1
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model.path = {path!r}: the folder has no config.json")
        return str(folder)
    if looks_local:
        raise InputError(f"model.path = {path!r}: no such folder (a hub id looks like owner/name)")
    name = hub.parse_name(path, "model")
    if name is None:
        raise InputError(f"model.path = {path!r}: neither a folder nor a hub id (owner/name)")
    return name


def build_scorer(config: Config) -> Scorer:
    """The rewards, with their workers not yet started; each kind of alarm is told once."""
    told: set[tuple[str, str]] = set()

    def tell_once(alarm: Alarm) -> None:
        if (alarm.component, alarm.kind) not in told:
            told.add((alarm.component, alarm.kind))
            log.warning("reward %s: %s", alarm.component, alarm.message)

    return load_rewards(
        [r.model_dump(exclude_none=True) for r in config.rewards], on_alarm=tell_once
    )


def build_algorithm(config: Config) -> "Algorithm":
    """The five stages; a wrong name or option is told as bad input."""
    from rlnorm.presets import PRESETS
    from rlnorm.stages import options_of, suggest

    table = config.algorithm if isinstance(config.algorithm, dict) else {"name": config.algorithm}
    name = str(table.get("name", "grpo"))
    if name not in PRESETS:  # before torch is imported
        raise InputError(
            f"algorithm = {name!r}: choose from {sorted(PRESETS)}{suggest(name, PRESETS)}"
        )
    slots = {key: value for key, value in table.items() if key != "name"}
    if "group_size" in (slots.get("sample_plan") or {}):
        raise InputError("algorithm.sample_plan.group_size: set rollout.group_size instead")
    from rlnorm.algorithms import resolve_algorithm

    try:
        algorithm = resolve_algorithm(name, slots)
        options = options_of(algorithm.estimator.function)
        if "weights" in options and "weights" not in algorithm.estimator.options:
            weights = list(build_scorer(config).weights.values())
            chosen = {"name": algorithm.estimator.name, **algorithm.estimator.options}
            algorithm = resolve_algorithm(
                name, {**slots, "estimator": {**chosen, "weights": weights}}
            )
    except ValueError as error:
        raise InputError(f"algorithm: {error}") from None
    return algorithm


def _check_source(source: str) -> None:
    """A named preset must exist, and a .jsonl or .parquet; other sources are checked when read."""
    preset, equals, rest = source.partition("=")
    if equals:
        get_preset(preset)
    path = Path(rest or source)
    if path.suffix in (".jsonl", ".parquet") and not path.exists():
        raise InputError(f"no such file {path}")
