"""What can be told of a config in a blink: the checks that come before any heavy import."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from rewards.errors import InputError
from rewards.registry import load_rewards
from rewards.scorer import Alarm, Scorer
from trainers.config import Config

if TYPE_CHECKING:
    from rlnorm.algorithms import Algorithm

log = logging.getLogger(__name__)


def precheck(config: Config) -> None:
    """Model folder, data files, rewards and algorithm, the cheapest first."""
    model_path(config.model.path)
    for source in (config.data.train, *config.data.eval.values()):
        _check_file(source)
    build_scorer(config)
    build_algorithm(config)


def model_path(path: str) -> str:
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
    return path


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
            weights = [r.weight for r in config.rewards for _ in r.components or [r.name]]
            chosen = {"name": algorithm.estimator.name, **algorithm.estimator.options}
            algorithm = resolve_algorithm(
                name, {**slots, "estimator": {**chosen, "weights": weights}}
            )
    except ValueError as error:
        raise InputError(f"algorithm: {error}") from None
    return algorithm


def _check_file(source: str) -> None:
    """A .jsonl or .parquet that is named must be there; other sources are checked when read."""
    path = Path(source.partition("=")[2] or source)
    if path.suffix in (".jsonl", ".parquet") and not path.exists():
        raise InputError(f"data source {source!r}: no such file {path}")
