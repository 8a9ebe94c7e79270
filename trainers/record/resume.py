"""What may change when a run is resumed: its config against that of its newest checkpoint."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from rlnorm.errors import InputError
from rlnorm.trainers.config.file import read_table
from rlnorm.trainers.config.load import validate_config
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.files import latest_checkpoint

FREE_ON_RESUME = (
    *("steps", "eval_every", "checkpoint_every", "keep_checkpoints", "logging", "cluster"),
    *("rollout.deadline_s", "learner.tokens_per_microbatch", "learner.gradient_checkpointing"),
    *("rewards.*.deadline_s", "rewards.*.memory_mb"),
    *("output_dir", "run_name"),  # the run was moved
)
"""Keys that may change when a run is resumed: they do not affect the steps already taken."""


class Change(NamedTuple):
    """A key of the config that differs from what the steps so far were made with."""

    key: str
    old: Any
    new: Any


def config_changes(run: Path, config: Config) -> list[Change]:
    """Keys that differ from the config of the newest checkpoint; InputError if one is not free."""
    made_with = config_of(run)
    if not made_with.is_file():
        raise InputError(f"--resume: {made_with} is missing, so this is not a run directory")
    try:
        # through Config, so that a key that is newer than the file has its default
        before = validate_config(read_table(made_with))
    except InputError as error:
        raise InputError(f"--resume: {made_with}: {error}") from None
    _check_steps(run, config.steps)
    old, new = (flatten(_table(c)) for c in (before, config))
    changes = [Change(k, old.get(k), new.get(k)) for k in dict.fromkeys((*new, *old))]
    changes = [change for change in changes if change.old != change.new]
    for key, was, now in changes:
        if not any(
            fnmatchcase(key, free) or fnmatchcase(key, f"{free}.*") for free in FREE_ON_RESUME
        ):
            raise InputError(f"--resume: {key} = {now!r}, but the run was started with {was!r}")
    return changes


def _table(config: Config) -> dict[str, Any]:
    """The config with an algorithm that is only named in the form of one with options."""
    table = config.model_dump(mode="json")
    named = table["algorithm"]
    return {**table, "algorithm": {"name": named} if isinstance(named, str) else named}


def _check_steps(run: Path, steps: int) -> None:
    """Refuse to resume a run that has taken more steps than the config asks for."""
    newest = latest_checkpoint(run / "checkpoints")
    taken = int(newest.name.removeprefix("step_")) if newest is not None else 0
    if taken > steps:
        raise InputError(f"--resume: steps = {steps}, but the run has taken {taken} steps")


def config_of(run: Path) -> Path:
    """The config that the newest checkpoint was made with; that of the run if it has none."""
    checkpoint = latest_checkpoint(run / "checkpoints")
    stored = checkpoint / "config.yaml" if checkpoint is not None else None
    return stored if stored is not None and stored.is_file() else run / "config.yaml"


def flatten(table: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys to values; list items are addressed by name, or by index without one."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            value = {str(item.get("name", i)): item for i, item in enumerate(value)}
        if isinstance(value, Mapping) and value:
            out |= {f"{key}.{name}": item for name, item in flatten(value).items()}
        else:
            out[key] = value
    return out
