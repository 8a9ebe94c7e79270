"""JSON Schema as a reward: the standard's vocabulary (`jsonschema`), nothing fetched for a $ref."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing.exceptions import Unresolvable
from referencing.jsonschema import specification_with

from rlnorm.errors import InputError
from rlnorm.rewards.json_values import plain_json
from rlnorm.rewards.match import no_answer, verdict
from rlnorm.rewards.types import Sample, Score, Status

_FENCE = "```"


def make_validator(schema: Any, where: str) -> Validator:
    """A validator of the draft that `$schema` names, Draft 2020-12 where it names none.

    schema: a table or a boolean. where: the prefix of the InputError for an invalid schema, or for
    a $ref that points outside it.
    """
    if not isinstance(schema, Mapping | bool):
        raise InputError(f"{where} = {schema!r}: needs a table or a boolean")
    return _make_validator(json.dumps(plain_json(schema)), where)


@lru_cache(maxsize=256)
def _make_validator(text: str, where: str) -> Validator:
    """Cached: a row's own schema comes once for each rollout of its group."""
    schema = json.loads(text)
    draft = schema.get("$schema", "") if isinstance(schema, dict) else ""
    kind = validator_for(schema, default=None if draft else Draft202012Validator)
    if kind is None:
        raise InputError(f"{where}.$schema = {draft!r}: not a draft of JSON Schema")
    meta = kind(kind.META_SCHEMA, registry=SPECIFICATIONS, format_checker=kind.FORMAT_CHECKER)
    if worst := best_match(meta.iter_errors(schema)):
        path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in worst.absolute_path)
        raise InputError(f"{where}{path} = {worst.instance!r}: {worst.message}")
    _check_refs(schema, kind.META_SCHEMA["$schema"], where)
    return kind(schema, registry=SPECIFICATIONS)


def _check_refs(schema: Any, draft: str, where: str) -> None:
    resource = specification_with(draft).create_resource(schema)
    todo = [(resource, SPECIFICATIONS.resolver_with_root(resource))]
    while todo:
        part, resolver = todo.pop()
        ref = part.contents.get("$ref") if isinstance(part.contents, dict) else None
        try:
            if isinstance(ref, str):
                resolver.lookup(ref)
        except Unresolvable:
            raise InputError(
                f"{where}: $ref = {ref!r}: must point within this schema, nothing is fetched"
            ) from None
        todo += [(inner, resolver.in_subresource(inner)) for inner in part.subresources()]


def _json_text(text: str) -> str:
    """The last fenced block, else everything."""
    parts = text.split(_FENCE)
    if len(parts) < 3:
        return text
    block = parts[-2] if len(parts) % 2 else parts[-1]
    return block.removeprefix("json").strip()


class JsonSchema:
    """1.0 when the answer (its last fenced block, if any) is JSON that satisfies the schema.

    schema: a table; a row's meta["schema"] is used when none is given. Runs in a worker, whose
    deadline bounds what a pattern may cost.
    """

    def __init__(self, schema: Mapping[str, Any] | bool | None = None) -> None:
        self._own = None if schema is None else make_validator(schema, "json_schema.schema")

    def __call__(self, sample: Sample) -> Score:
        """Score one sample."""
        validator = self._own or make_validator(sample.meta.get("schema"), "schema")
        text = sample.after_reasoning
        if text is None or not text.strip():
            return no_answer("nothing after the reasoning")
        try:
            return verdict(validator.is_valid(json.loads(_json_text(text.strip()))))
        except Unresolvable as error:  # by $dynamicRef
            raise InputError(f"schema: {error}: nothing is fetched") from None
        except (ValueError, RecursionError, OverflowError) as error:
            # no JSON, nested too deep to compare, or a number too large to divide
            why = {"why": str(error)}
            return Score(components={"score": 0.0}, status=Status.UNPARSABLE, detail=why)
