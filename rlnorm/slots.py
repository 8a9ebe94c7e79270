"""The columns each slot of an algorithm may name, and how its config entry becomes stages."""

from collections.abc import Mapping
from typing import Any

from rlnorm.errors import InputError
from rlnorm.lookup import suggest
from rlnorm.options import check_options, options_of
from rlnorm.regularizers import REGULARIZERS, SELECTORS
from rlnorm.sampling import SamplePlan
from rlnorm.stages import Stage, named_entry, resolve_stage

SCORED = frozenset(
    {"entropy", "old_logprobs", "proximal_logprobs", "proxy_logprobs", "ref_logprobs", "sum_p2"}
)
"""Token columns that a scoring pass computes."""

_OF_TOKENS = {"positions", "rollout_index", "sampler_logprobs", "token_rewards", "turn_index"}
_OF_ROLLOUTS = {"greedy_rewards", "group_index", "lengths", "rewards", "truncated", "turn_rewards"}
DRIVER_COLUMNS = (SCORED - {"proximal_logprobs"}) | _OF_TOKENS | _OF_ROLLOUTS
MODULATOR_COLUMNS = DRIVER_COLUMNS | {"advantages"}
_LOSS_COLUMNS = {"advantages", "logprobs", "rollout_index", "sampler_logprobs"}
LEARNER_COLUMNS = (SCORED - {"sum_p2"}) | _LOSS_COLUMNS
CORRECTION_COLUMNS = frozenset({"old_logprobs", "rollout_index", "sampler_logprobs"})


def overridden(slot: str, named: Any, value: Any) -> Any:
    """A named algorithm's slot, overridden by a config's value."""
    if slot == "sample_plan":
        if not isinstance(value, Mapping):
            raise ValueError(f"{slot} = {value!r}: needs keys with values, such as {{name: value}}")
        return {**named, **value}
    if isinstance(named, list) or not isinstance(value, Mapping):
        return value
    base = {"name": named} if isinstance(named, str) else dict(named)
    if value.get("name", base["name"]) != base["name"]:
        return value
    return {**base, **value}


def entries(value: Any) -> list[Any]:
    """The entries of a list slot, where a single one may be given without a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def stages(
    slot: str, specs: Any, table: Mapping[str, Any], columns: frozenset[str] | set[str]
) -> tuple[Stage, ...]:
    """The stages of a list slot."""
    return tuple(
        resolve_stage(f"{slot}[{i}]", spec, table, columns) for i, spec in enumerate(entries(specs))
    )


def regularizer(position: int, spec: Any) -> tuple[Stage, Stage | None]:
    """A regularizer and, where it has one, the function that selects its tokens."""
    slot = f"regularizers[{position}]"
    entry = named_entry(slot, spec, REGULARIZERS)
    name, chosen = entry["name"], entry.pop("select", None)
    selector = chosen or (name if name in SELECTORS else None)
    if selector is None:
        columns = LEARNER_COLUMNS | {"entropy_coef"}
        return resolve_stage(slot, entry, REGULARIZERS, columns), None
    marks = resolve_stage(f"{slot}.select", selector, SELECTORS, LEARNER_COLUMNS)
    selector_options = options_of(marks.function)
    own = {key: value for key, value in entry.items() if key not in selector_options}
    columns = LEARNER_COLUMNS | {"selected"}
    token = resolve_stage(slot, {"name": name}, REGULARIZERS, columns)
    known = {**options_of(token.function), **selector_options}
    for key, value in entry.items():
        if key != "name" and key not in known:
            raise ValueError(
                f"{slot}.{key} = {value!r}: {name} takes {sorted(known)}{suggest(key, known)}"
            )
    given = {key: entry[key] for key in selector_options if key in entry}
    check_options(f"{slot}.", str(name), marks.function, given)
    bound = Stage(marks.name, marks.function, given, marks.data, marks.optional)
    return resolve_stage(slot, own, REGULARIZERS, columns), bound


def sample_plan(options: Mapping[str, Any]) -> SamplePlan:
    """A checked SamplePlan."""
    if "group_size" in options:
        raise InputError(
            f"sample_plan.group_size = {options['group_size']!r}: set rollout.group_size, which is "
            "how many rollouts a prompt gets"
        )
    check_options("sample_plan.", "a sample plan", SamplePlan, options)
    return SamplePlan(**options)
