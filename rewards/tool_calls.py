"""Tool-call rewards: the shape of the reply, and how close its calls are to the reference calls.

Source: ToolRL, arXiv:2504.13958, and its code (qiancheng0/ToolRL). Formula, with R reference calls
and P predicted ones:
    score = jaccard(names of R, names of P)
            + sum over R of the best unused call of P with the same name:
              jaccard(parameter names) + number of equal parameter values
    correctness = 6 * score / (1 + sum over R of (1 + number of parameters)) - 3     in [-3, 3]
Both Jaccards are over multisets. Departures: values are compared deeply and by type (`true` is not
1, 1 is 1.0); a call may name its parameters `parameters` or `arguments`; nothing but JSON objects
counts as a call. As in the source, a reference without calls gives 0 unless `needless_calls` says
to penalise: then 3 for no call and -3 for any.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rlnorm.rewards.json_values import same_json
from rlnorm.rewards.text import after_reasoning
from rlnorm.rewards.types import Score, Status

_MIN, _MAX = -3.0, 3.0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call."""

    name: str
    parameters: Mapping[str, Any]


def parse_calls(text: str) -> list[ToolCall] | None:
    """The calls of all `<tool_call>` blocks, one JSON object per line; None if any is malformed."""
    calls = []
    for block in text.split("<tool_call>")[1:]:
        body, closing, _ = block.partition("</tool_call>")
        if not closing:
            return None
        try:
            for value in _json_values(body):
                calls.append(as_call(value))
        except (ValueError, RecursionError):
            return None
    return calls


def _json_values(body: str) -> Iterable[Any]:
    """JSON values one after another, over one line or several."""
    decoder, at = json.JSONDecoder(), 0
    while rest := body[at:].lstrip():
        value, used = decoder.raw_decode(rest)
        at = len(body) - len(rest) + used
        yield value


def as_call(value: Any) -> ToolCall:
    """One parsed call; ValueError for anything of another shape."""
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        parameters = value.get("parameters", value.get("arguments", {}))
        if isinstance(parameters, Mapping):
            return ToolCall(value["name"], parameters)
    raise ValueError(f"call {str(value)[:200]!r}: needs name and parameters, both well-formed")


def _jaccard(first: Iterable[str], second: Iterable[str]) -> float:
    a, b = Counter(list(first)), Counter(list(second))
    union = (a | b).total()
    return (a & b).total() / union if union else 1.0


def correctness(reference: list[ToolCall], predicted: list[ToolCall]) -> float:
    """The formula above, for a reference with at least one call."""
    score = _jaccard((c.name for c in reference), (c.name for c in predicted))
    most = 1.0 + sum(1 + len(call.parameters) for call in reference)
    unused = list(predicted)
    for call in reference:
        same_name = [other for other in unused if other.name == call.name]
        if same_name:
            best = max(same_name, key=lambda other: _closeness(call, other))
            score += _closeness(call, best)
            unused = [other for other in unused if other is not best]
    return (_MAX - _MIN) * score / most + _MIN


def _closeness(call: ToolCall, other: ToolCall) -> float:
    equal_values = sum(
        name in other.parameters and same_json(other.parameters[name], value)
        for name, value in call.parameters.items()
    )
    return _jaccard(call.parameters, other.parameters) + equal_values


def has_format(completion: str, *, calls: bool, response: bool) -> bool:
    """`<think>`, then `<tool_call>` and `<response>` exactly where the reference has them."""
    rest = completion.strip()
    for tag, wanted in (("think", True), ("tool_call", calls), ("response", response)):
        opening, closing = f"<{tag}>", f"</{tag}>"
        if completion.count(opening) != wanted or completion.count(closing) != wanted:
            return False
        if wanted:
            before, _, rest = rest.partition(closing)
            if not before.startswith(opening):
                return False
            rest = rest.lstrip()
    return not rest


def _reference(gold: Any) -> tuple[list[ToolCall], bool]:
    """The calls of a gold, and whether a reply is expected; ValueError for any other gold."""
    try:
        read = json.loads(gold) if isinstance(gold, str) else gold
        table = read if isinstance(read, Mapping) else {"calls": read}
        reference = [as_call(call) for call in table["calls"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"gold {str(gold)[:200]!r}: {error}") from error
    reply = table.get("response")
    return reference, not reference if reply is None else bool(reply)


class ToolCallReward:
    """Components format (0 or 1) and correctness (-3 to 3), kept separate for GDPO.

    `gold` is a list of calls, or {"calls": [...], "response": bool}, or either as JSON text;
    without `response` a reply is expected to carry one exactly when it has no call.
    """

    components = ("format", "correctness")
    runs_inline = True

    def __init__(self, *, needless_calls: Literal["ignore", "penalise"] = "ignore") -> None:
        self._penalise = needless_calls == "penalise"

    @staticmethod
    def check_gold(gold: Any) -> None:
        """Raise ValueError if the gold holds no calls that can be read."""
        _reference(gold)

    def __call__(self, full_text: str, gold: Any) -> Score:
        """Score one reply. Malformed calls: correctness -3, status unparsable."""
        try:
            reference, replies = _reference(gold)
        except ValueError as error:
            nan = {name: float("nan") for name in self.components}
            return Score(components=nan, status=Status.GOLD_ERROR, detail={"error": str(error)})
        shape = float(has_format(full_text, calls=bool(reference), response=replies))
        answer = after_reasoning(full_text)
        predicted = parse_calls(answer or "")
        if answer is None:  # the reasoning never ends
            unexcused = bool(reference) or self._penalise
            value, status = _MIN if unexcused else 0.0, Status.NO_ANSWER
        elif predicted is None:
            value, status = _MIN, Status.UNPARSABLE
        elif not reference and self._penalise:
            value, status = (_MIN, Status.WRONG) if predicted else (_MAX, Status.CORRECT)
        elif not reference:
            value, status = 0.0, Status.WRONG if predicted else Status.CORRECT
        else:
            value = correctness(reference, predicted)
            status = Status.CORRECT if value == _MAX else Status.WRONG
        if predicted is not None and reference and not predicted:
            status = Status.NO_ANSWER
        return Score(components={"format": shape, "correctness": value}, status=status)
