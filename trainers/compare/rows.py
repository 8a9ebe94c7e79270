"""What the rows of a comparison differ in: each method replaces one part of the baseline.

A named algorithm is a recipe; its row takes the part that it is named for (its estimator with the
rollouts that one needs, its modulators, regularizers, loss, or sampling) and everything else from
the baseline, so that a difference in results has one cause. What is in no row's part, such as
the aggregation, is the same in all of them.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rlnorm.errors import InputError
from rlnorm.named_algorithms import DEFAULTS, Part, named_algorithm
from rlnorm.trainers.config.schema import Config

if TYPE_CHECKING:
    from rlnorm.algorithms import Algorithm

_SLOTS = (*sorted(DEFAULTS.keys() - {"sample_plan"}), "selector", "sample_plan")
_SHOWN = {"sample_plan": "sampling", "selector": "regularizers"}
"""Slots that readers know by another name."""


def refuse_shared(names: Iterable[str], shared: Mapping[str, Any]) -> None:
    """Raise InputError where the config replaces the part that an algorithm is named for."""
    for name in names:
        part = named_algorithm(name).part
        if part in shared and part in ("estimator", "loss"):
            raise InputError(
                f"algorithm.{part} is set and would replace that of {name!r}, which is named for "
                "it; add 'config' to --algorithms to compare the config's own algorithm"
            )


def baseline_table(name: str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """`algorithm:` of the baseline. shared: the stages that the config sets for all rows."""
    spec = named_algorithm(name)
    return {"name": name, **shared, **_with_shared(spec.part, spec.slots, shared)}


def row_table(name: str, baseline: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """`algorithm:` of another row: the named algorithm with all but its part as in the baseline.

    baseline: `algorithm:` of the baseline.
    """
    from rlnorm.slots import overridden

    spec = named_algorithm(name)
    recipe = {**DEFAULTS, **spec.slots}
    own = {**DEFAULTS, **named_algorithm(str(baseline.get("name", "grpo"))).slots}
    wanted = {s: overridden(s, own[s], baseline[s]) if s in baseline else own[s] for s in DEFAULTS}
    plan = wanted["sample_plan"]
    wanted[spec.part] = recipe[spec.part]
    wanted |= _with_shared(spec.part, recipe, shared)
    if spec.part == "sample_plan":
        wanted["sample_plan"] = {**plan, **recipe["sample_plan"]}
    elif spec.part == "estimator":  # some need a rollout more, which the others do not use
        extra = recipe["sample_plan"].get("extra_kind", "none")
        if extra != plan.get("extra_kind", "none"):
            wanted["sample_plan"] = {**plan, "extra_kind": extra}
    changed = [s for s in DEFAULTS if s in baseline or wanted[s] != recipe[s]]
    return {"name": name, **{s: _replacing(s, wanted[s], recipe[s]) for s in changed}}


def _with_shared(part: Part, slots: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """A part that lists its stages, with those before it that the config gives to all rows."""
    if part not in ("modulators", "regularizers") or part not in shared:
        return {}
    listed = shared[part] if isinstance(shared[part], list) else [shared[part]]
    return {part: [*listed, *slots[part]]}


def _replacing(slot: str, stage: Any, recipe: Any) -> Any:
    """The stage with the defaults of those options that a config would keep from the recipe."""
    if not (isinstance(stage, Mapping) and isinstance(recipe, Mapping)):
        return stage
    from rlnorm.methods import STAGES
    from rlnorm.options import options_of
    from rlnorm.sampling import SamplePlan

    if stage.get("name") != recipe.get("name"):
        return stage
    function = SamplePlan if slot == "sample_plan" else STAGES[slot][stage["name"]]
    return {**{k: v for k, v in options_of(function).items() if k in recipe}, **stage}


def changed_parts(row: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[str]:
    """The parts in which two algorithms differ, both as `Algorithm.describe` gives them."""
    slots = [s for s in _SLOTS if row[s] != baseline[s]]
    return list(dict.fromkeys(_SHOWN.get(slot, slot) for slot in slots))


def check_rows(built: Mapping[str, "Algorithm"], baseline: str, config: Config) -> None:
    """Raise InputError for a row that would be another one under a second name."""
    described = {name: algorithm.describe() for name, algorithm in built.items()}
    for name, algorithm in built.items():
        if "turn_rewards" in algorithm.estimator.data and _one_turn(config):
            raise InputError(
                f"--algorithms: {name!r} compares the turns of a rollout, and the rollouts of this "
                "task have one turn: nothing of what it is named for would differ from "
                f"{baseline!r}; leave it out, or set rollout.environment to a task of several turns"
            )
        changes = changed_parts(described[name], described[baseline])
        if changes == ["loss"] and _ratio_stays_1(config, algorithm, built[baseline]):
            raise InputError(
                f"--algorithms: {name!r} treats the ratio of new to old policy in another way than "
                f"{baseline!r}, and with learner.minibatches = 1 and learner.epochs = 1 that ratio "
                "is always 1; leave it out, or take several optimizer steps on a batch"
            )
    names = [baseline, *(name for name in built if name != baseline)]
    for i, name in enumerate(names):
        for earlier in names[:i]:
            if not changed_parts(described[name], described[earlier]):
                raise InputError(
                    f"--algorithms: {name!r} is the same as {earlier!r} here: it differs in none "
                    "of estimator, modulators, regularizers, loss and sampling; leave it out, or "
                    "choose another --baseline"
                )


def _ratio_stays_1(config: Config, *algorithms: "Algorithm") -> bool:
    """True where the losses, all of them functions of the ratio, have the same gradient."""
    from rlnorm.losses import LOSSES

    learner = config.learner
    one_step = learner.minibatches == learner.epochs == 1 and learner.old_logprobs == "recompute"
    losses = [algorithm.loss_stage for algorithm in algorithms]
    return one_step and all(s.name in LOSSES and "old_logprobs" in s.data for s in losses)


def _one_turn(config: Config) -> bool:
    environment = config.rollout.environment
    if environment is None:
        return True
    return environment.get("max_turns") == 1 or environment.get("turns") in (1, [1])
