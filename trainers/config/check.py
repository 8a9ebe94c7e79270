"""What can be told of a config in a blink: the checks that come before any heavy import."""

import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlnorm.errors import InputError
from rlnorm.rewards.data import hub
from rlnorm.rewards.data.formats import get_preset
from rlnorm.rewards.data.hub import HubName
from rlnorm.rewards.environments import ENVIRONMENTS
from rlnorm.rewards.registry import load_rewards
from rlnorm.rewards.scorer import Alarm, Scorer
from rlnorm.rewards.spec import suggest
from rlnorm.trainers.config.schema import Config, ModelConfig
from rlnorm.trainers.record.run_dir import check_writable
from rlnorm.trainers.tasks import TASKS, shipped_model

if TYPE_CHECKING:
    from rlnorm.algorithms import Algorithm

log = logging.getLogger(__name__)


T = TypeVar("T")
_HUB_SOURCE = re.compile(r"(?:(\w+)=)?hf:([^:]*)(?::(.*))?")
ENV_SIZES = {"train": 4096, "test": 256}
"""How many problem seeds an `env:` source holds of each split."""
TASK_SIZES = {"train": 8192, "heldout": 512, "hard": 512}
"""How many problems a `task:` source draws of each split."""
FILES = (".jsonl", ".json", ".parquet")
"""Suffixes of data files."""


def precheck(config: Config) -> None:
    """Model, data, rewards and algorithm, the cheapest first; the hub is asked, not yet read."""
    if config.learner.backend == "embedded" and config.model.dtype == "bfloat16":
        raise InputError(
            "model.dtype = 'bfloat16' with learner.backend: embedded: small updates are lost in "
            "bfloat16 weights; use float32, or deepspeed, which keeps a float32 copy of them"
        )
    _check_address(config.cluster.address)
    _check_inputs(config)
    build_algorithm(config)
    _ask_hub(config)


def precheck_eval(config: Config, checkpoint: Path | None, out: Path | None) -> None:
    """The same for `rlnorm eval`, which needs no algorithm and no learner."""
    if not config.data.eval:
        raise InputError("data.eval is empty: name a benchmark, such as data.eval.chain=task:chain")
    if out is not None:
        check_writable(out, "--out")
    config = at_checkpoint(config, checkpoint)
    _check_inputs(config)
    _ask_hub(config)


def at_checkpoint(config: Config, checkpoint: Path | None) -> Config:
    """The config with the model of a checkpoint, or of a model folder, if one is given."""
    if checkpoint is None:
        return config
    folder = checkpoint / "model" if (checkpoint / "model").is_dir() else checkpoint
    if not (folder / "config.json").is_file():
        raise InputError(f"--checkpoint {checkpoint}: no checkpoint or model folder is there")
    # absolute: engines may run in another folder
    model = config.model.model_copy(update={"path": str(folder.absolute())})
    return config.model_copy(update={"model": model})


def _check_inputs(config: Config) -> None:
    _local_or_hub(config.model.path)
    environment = config.rollout.environment
    for key, source in _sources(config).items():
        of_key(key, source, check_source, source, environment is not None)
    if environment is not None:
        name = str(environment.get("name", ""))
        if ":" not in name and name not in ENVIRONMENTS:
            allowed = f"{suggest(name, list(ENVIRONMENTS))} or module:Class"
            raise InputError(f"rollout.environment.name = {name!r}: {allowed}")
    build_scorer(config)


def _ask_hub(config: Config) -> None:
    model = _local_or_hub(config.model.path)
    if isinstance(model, HubName):
        of_key("model.path", config.model.path, hub.check, model)
    for key, source in _sources(config).items():
        if (data := parse_hub_source(source)) is not None:
            of_key(key, source, hub.check, data.name)


def _check_address(address: str | None) -> None:
    host, _, port = (address or "").rpartition(":")
    if address is not None and not (host and port.isdigit()):
        raise InputError(f"cluster.address = {address!r}: expected host:port of a Ray head node")


def _sources(config: Config) -> dict[str, str]:
    benchmarks = {f"data.eval.{name}": source for name, source in config.data.eval.items()}
    return {"data.train": config.data.train, **benchmarks}


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
        return str(of_key("model.path", path, shipped_model, path.removeprefix("shipped:")))
    looks_local = path.startswith((".", "/", "~")) or path.count("/") != 1
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model.path = {path!r}: the folder has no config.json")
        return str(folder)
    if folder.exists():
        raise InputError(f"model.path = {path!r}: is a file; name the folder that holds it")
    if looks_local:
        raise InputError(f"model.path = {path!r}: no such folder (a hub id looks like owner/name)")
    name = hub.parse_name(path, "model")
    if name is None:
        raise InputError(f"model.path = {path!r}: neither a folder nor a hub id (owner/name)")
    return name


@contextmanager
def _code_of_user(key: str, ours: type[ValueError] = InputError) -> Iterator[None]:
    """A module or class of the user's that raises while it is loaded, told in one line.

    ours: what our own checks raise, which passes.
    """
    try:
        yield
    except ours:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        # a SyntaxError names its own place
        place = "" if isinstance(error, SyntaxError) else f" ({last.filename}, line {last.lineno})"
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{key}: raised while it was loaded: {told}{place}") from error


def build_scorer(config: Config) -> Scorer:
    """The rewards, with their workers not yet started; each kind of alarm is told once."""
    told: set[tuple[str, str]] = set()

    def tell_once(alarm: Alarm) -> None:
        if (alarm.component, alarm.kind) not in told:
            told.add((alarm.component, alarm.kind))
            log.warning("reward %s: %s", alarm.component, alarm.message)

    with _code_of_user("rewards"):
        return load_rewards(
            [r.model_dump(exclude_none=True) for r in config.rewards], on_alarm=tell_once
        )


def algorithm_slots(config: Config) -> tuple[str, dict[str, Any]]:
    """The algorithm's name and the slots the config sets; InputError for an unknown name."""
    from rlnorm.named_algorithms import named_preset

    table = config.algorithm if isinstance(config.algorithm, dict) else {"name": config.algorithm}
    name = str(table.get("name", "grpo"))
    try:
        named_preset(name)
    except ValueError as error:
        raise InputError(str(error)) from None
    slots = {key: value for key, value in table.items() if key != "name"}
    if "group_size" in (slots.get("sample_plan") or {}):
        raise InputError("algorithm.sample_plan.group_size: set rollout.group_size instead")
    return name, slots


def build_algorithm(config: Config) -> "Algorithm":
    """The five stages; a wrong name or option is told as bad input."""
    name, slots = algorithm_slots(config)
    from rlnorm.algorithms import resolve_algorithm
    from rlnorm.stages import options_of

    try:
        with _code_of_user("a function of it", ValueError):
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
    _check_group(config.rollout.group_size, algorithm)
    return algorithm


def _check_group(size: int, algorithm: "Algorithm") -> None:
    """One rollout a prompt teaches an estimator that compares rollouts of a prompt nothing."""
    from rlnorm.algorithms import GROUP_RELATIVE

    stage, alone = algorithm.estimator, algorithm.sample_plan.extra_kind == "none" and size == 1
    if alone and stage.name in GROUP_RELATIVE and stage.options.get("singleton") != "reward":
        raise InputError(
            f"rollout.group_size = 1 with the estimator {stage.name}: it compares the rollouts of "
            "a prompt, and one alone has advantage 0; use 2 or more, or algorithm=reinforce_pp"
        )


def check_source(source: str, turns: bool) -> None:
    """That a data source names something: a task, a split, a preset, a file that is there.

    turns: True with rollout.environment, which has problems of its own.
    """
    kind, _, rest = source.partition(":")
    if turns or kind == "env":
        if not turns:
            raise InputError("needs rollout.environment, whose problems these are")
        if kind != "env" or rest not in ENV_SIZES:
            raise InputError("with rollout.environment choose env:train or env:test")
    elif kind == "task":
        name, _, split = rest.partition(":")
        if name not in TASKS:
            raise InputError(f"choose a task from {', '.join(sorted(TASKS))}")
        if split and split not in TASK_SIZES:
            raise InputError(f"choose a split from {', '.join(TASK_SIZES)}")
    elif parse_hub_source(source) is None:
        preset, equals, path = source.partition("=")
        if equals:
            get_preset(preset)
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
