"""Resolves the names in a config: model folder, rewards, algorithm."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlnorm.errors import InputError
from rlnorm.from_python import functions_in, name_from_python, pickled
from rlnorm.rewards.alarm import Alarm
from rlnorm.rewards.data import hub
from rlnorm.rewards.data.hub import HubName
from rlnorm.rewards.registry import load_rewards
from rlnorm.rewards.scorer import Scorer
from rlnorm.trainers.config.schema import Config, ModelConfig
from rlnorm.trainers.config.sources import of_key
from rlnorm.trainers.tasks import shipped_model

if TYPE_CHECKING:
    from rlnorm.algorithms import Algorithm
    from rlnorm.stages import Stage

log = logging.getLogger(__name__)


def model_path(path: str) -> str:
    """The local folder of a model; a hub id is downloaded unless it is cached."""
    found = local_or_hub(path)
    if isinstance(found, HubName):
        return str(of_key("model.path", path, hub.model_folder, found))
    return found


def pinned_model(config: ModelConfig) -> ModelConfig:
    """The same model; a hub id gets its commit, so that every node of a cluster, each with its own
    cache, reads the same files."""
    found = local_or_hub(config.path)
    if isinstance(found, HubName):
        found = of_key("model.path", config.path, hub.pinned, found)
    return config.model_copy(update={"path": found})


def local_or_hub(path: str) -> str | HubName:
    """The folder or hub id that `path` names; `shipped:NAME` is a model that rlnorm includes."""
    if path.startswith("shipped:"):
        return str(of_key("model.path", path, shipped_model, path.removeprefix("shipped:")))
    looks_local = path.startswith((".", "/", "~")) or path.count("/") != 1
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model.path = {path!r}: the folder has no config.json")
        return str(folder)
    if folder.exists():
        raise InputError(f"model.path = {path!r}: is a file; give the folder that contains it")
    if looks_local:
        raise InputError(f"model.path = {path!r}: no such folder (a hub id looks like owner/name)")
    name = hub.parse_name(path, "model")
    if name is None:
        raise InputError(f"model.path = {path!r}: neither a folder nor a hub id (owner/name)")
    return name


def build_scorer(config: Config) -> Scorer:
    """The rewards, with their workers not yet started; each kind of alarm is logged once, but
    waiting each time."""
    logged: set[tuple[str, str]] = set()

    def log_once(alarm: Alarm) -> None:
        if alarm.kind == "waiting" or (alarm.component, alarm.kind) not in logged:
            logged.add((alarm.component, alarm.kind))
            log.warning("%s", alarm)

    return load_rewards(
        [r.model_dump(exclude_none=True) for r in config.rewards], on_alarm=log_once
    )


def algorithm_slots(config: Config) -> tuple[str, dict[str, Any]]:
    """The algorithm's name and the stages that the config overrides; InputError if unknown."""
    from rlnorm.named_algorithms import named_algorithm

    table = config.algorithm if isinstance(config.algorithm, dict) else {"name": config.algorithm}
    name = str(table.get("name", "grpo"))
    named_algorithm(name)
    return name, {key: value for key, value in table.items() if key != "name"}


def build_algorithm(config: Config) -> "Algorithm":
    """The algorithm with its five stages; InputError for a wrong name or option."""
    name, slots = algorithm_slots(config)
    from rlnorm.algorithms import resolve_algorithm
    from rlnorm.options import options_of

    try:
        algorithm = resolve_algorithm(name, slots)
        options = options_of(algorithm.estimator.function)
        if "weights" in options:
            algorithm.estimator = _weighted(algorithm.estimator, build_scorer(config).weights)
    except ValueError as error:
        raise InputError(f"algorithm: {error}") from None
    _check_group(config.rollout.group_size, algorithm)
    if config.learner.backend == "deepspeed":
        for slot, function in functions_in(slots):
            pickled(function, f"algorithm.{slot}: {name_from_python(function)}")
    if "weights" not in options and "rewards" in algorithm.estimator.data:
        _refuse_weights(algorithm.estimator.name, build_scorer(config).weights)
    return algorithm


def _weighted(estimator: "Stage", weights: Mapping[str, float]) -> "Stage":
    """The estimator with the weights of the reward components, unless it has some of its own."""
    given = {"weights": list(weights.values()), **estimator.options}
    if given["weights"] is not None and len(given["weights"]) != len(weights):
        raise ValueError(
            f"estimator.weights = {given['weights']}: needs one for each of {[*weights]}"
        )
    if given["weights"] is not None and not any(given["weights"]):
        raise ValueError(f"the weights of all rewards, {[*weights]}, are 0: one must not be")
    return replace(estimator, options=given)


def _refuse_weights(estimator: str, weights: Mapping[str, float]) -> None:
    """Refuse weights that the estimator would ignore."""
    for name, weight in weights.items():
        if weight != 1.0:
            raise InputError(
                f"rewards.{name}.weight = {weight}: the estimator {estimator} takes no weights; "
                "give it a keyword-only option 'weights' (one number for each reward), or leave "
                "every weight at 1"
            )


def _check_group(size: int, algorithm: "Algorithm") -> None:
    """Refuse groups of one rollout for an estimator that compares the rollouts of a group."""
    from rlnorm.advantages import GROUP_RELATIVE

    stage, alone = algorithm.estimator, algorithm.sample_plan.extra_kind == "none" and size == 1
    if alone and stage.name in GROUP_RELATIVE and stage.options.get("singleton") != "reward":
        raise InputError(
            f"rollout.group_size = 1 with the estimator {stage.name}: it compares the rollouts of "
            "a prompt, so a single one has advantage 0; use 2 or more, or algorithm=reinforce_pp"
        )
