"""Options of a function against its signature: names, needed ones, and types by hint or default."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict

import pytest

from rlnorm.errors import InputError
from rlnorm.options import Within, check_options, checked, fits, options_of

Share = NewType("Share", float)


class Named(Protocol):
    name: str


class Row(TypedDict):
    a: int


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [3, -1], ["three", 3.0, True, None, [3]]),
        (float, [3, 0.5], ["0.5", False, None]),
        (bool, [True], [1, "true"]),
        (str, ["a"], [1, ["a"]]),
        (None, [None], [0]),
        (int | None, [3, None], ["3"]),
        (Optional[float], [3, None], ["3"]),  # noqa: UP045
        (list[float], [[1, 0.5], (1,), []], ["ab", [1, "a"], 1, {"a": 1}]),
        (list, [[1, "a"]], ["ab", 3]),
        (tuple[int, ...], [[1, 2, 3], ()], [[1, "a"], "12", 1]),
        (tuple[int, str], [[1, "a"]], [[1], [1, "a", 2], ["a", 1]]),
        (Sequence[str], [["a"], ("a",)], ["a", [1]]),
        (Sequence[float] | None, [[1.0], None], [[None], "x"]),
        (Iterable[int], [[1]], [["a"], 3]),
        (set[int], [[1], {1}], [["a"]]),
        (dict[str, float], [{"a": 1}], [{"a": "b"}, {1: 1.0}, ["a"]]),
        (Mapping[str, list[int]], [{"a": [1]}], [{"a": 1}, {"a": ["b"]}]),
        (dict, [{1: 2}], [[1]]),
        (Literal["a", 1], ["a", 1], ["b", True, 2]),
        (Callable[[int], int], [abs], ["abs", 3]),
        (Callable, [abs], ["abs"]),
        (Annotated[int, "above 0"], [3], ["3"]),
        (Share, [0.5], ["0.5"]),
        (type[int], [int], ["int"]),
        (Any, [3, "a", None], []),
        (Named, [3], []),  # a protocol that cannot be checked at run time
        (Row, [{"a": 1}], []),
        ("Unknown", [3], []),
    ],
)
def test_values_against_hints(hint, good, bad):
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []


def by_hint(rewards, *, k: int = 2, tags: "list[str] | None" = None, needed: str):
    return rewards


def by_default(rewards, *, k=2, share=0.5, on=True, mode="a", parts=(1, 2), table={}, any=None):  # noqa: B006
    return rewards


def by_strings_without_meaning(rewards, *, k: "Nothing" = 2, of: "torch.nothing" = "a"):  # noqa: F821
    return rewards


class ByConstructor:
    def __init__(self, turns: int = 3, *, split: Literal["train", "test"] = "train"):
        self.turns, self.split = turns, split


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (by_hint, {"needed": "x", "k": "three"}, r"^w\.k = 'three' \(str\): f takes int$"),
        (by_hint, {"needed": "x", "tags": "ab"}, r"w\.tags = 'ab' \(str\): f takes list\[str\]"),
        (by_hint, {"k": 3}, r"^w\.needed: f needs a value for it$"),
        (by_hint, {"needed": "x", "kk": 3}, r"w\.kk = 3: f takes \['k', .*did you mean 'k'"),
        (by_default, {"k": "three"}, r"w\.k = 'three' \(str\): f takes float"),
        (by_default, {"k": True}, r"w\.k = True"),
        (by_default, {"share": "0.5"}, r"w\.share = '0.5'"),
        (by_default, {"on": 1}, r"w\.on = 1 \(int\): f takes bool"),
        (by_default, {"mode": 3}, r"w\.mode = 3 \(int\): f takes str"),
        (by_default, {"parts": "12"}, r"w\.parts = '12'"),
        (by_default, {"table": [1]}, r"w\.table = \[1\]"),
        (by_strings_without_meaning, {"k": "three"}, r"w\.k = 'three'"),
        (by_strings_without_meaning, {"of": 3}, r"w\.of = 3"),
        (ByConstructor, {"turns": "two"}, r"w\.turns = 'two'"),
        (ByConstructor, {"split": "dev"}, r"w\.split = 'dev' .* one of \['train', 'test'\]"),
        (ByConstructor, {"turn": 2}, r"did you mean 'turns'"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_taken(function, options, message):
    with pytest.raises(InputError, match=message):
        check_options("w.", "f", function, options, positional=function is ByConstructor)


def test_right_options_pass():
    check_options("w.", "f", by_hint, {"needed": "x", "k": 3, "tags": ["a"]})
    values = {"k": 0.5, "share": 1, "on": False, "mode": "b", "parts": [3], "any": object()}
    check_options("w.", "f", by_default, values)
    check_options("w.", "f", by_strings_without_meaning, {"k": 3, "of": "b"})
    check_options("w.", "f", ByConstructor, {"turns": 2, "split": "test"}, positional=True)
    check_options("w.", "f", lambda x, **rest: x, {"whatever": 1})
    assert options_of(by_hint)["k"] == 2


def test_nan_is_no_number_and_infinity_is_one():
    assert not fits(float("nan"), float)
    assert fits(float("inf"), float)


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "text"),
    [
        (Within(0), [0, 2.5], [-1e-9, float("inf")], "0 or more, and finite"),
        (Within(0, above=True), [1e-9], [0, -1], "more than 0, and finite"),
        (Within(0, above=True, infinite=True), [float("inf")], [0], "more than 0"),
        (Within(0, 1), [0, 1], [-0.1, 1.1], "a value in [0, 1]"),
        (Within(0, 1, above=True), [0.1, 1], [0], "a value in (0, 1]"),
        (Within(high=0, infinite=True), [0, -float("inf")], [0.1], "0 or less"),
    ],
)
def test_bounds(bounds, good, bad, text):
    assert all(bounds.holds(value) for value in good)
    assert not any(bounds.holds(value) for value in bad)
    assert str(bounds) == text


def _ordered(low: float, high: float) -> str:
    return "" if low < high else f"low = {low}, needs less than high = {high}"


@checked(_ordered)
def bounded(
    rewards,
    group_index,
    *,
    low: float = 0.0,
    high: Annotated[float, Within(0)] | None = 1.0,
):
    return rewards, group_index, low, high


def test_bounds_and_rules_hold_in_a_direct_call_and_from_a_config():
    assert bounded(3, 4, low=0.5) == (3, 4, 0.5, 1.0)
    assert bounded(3) == (3, None, 0.0, 1.0)  # what a missing group_index means is up to it
    for wrong, told in (
        ({"high": -1.0}, "high = -1.0, needs 0 or more, and finite"),
        ({"low": 1.0}, "low = 1.0, needs less than high = 1.0"),
        ({"high": "a"}, r"high = 'a' \(str\): .* takes float \| None"),
    ):
        with pytest.raises(InputError, match=rf"^bounded: {told}$"):
            bounded(3, 4, **wrong)
        with pytest.raises(InputError, match=rf"^w\.{told}$"):
            check_options("w.", "f", bounded, wrong)
    with pytest.raises(ValueError, match=r"bounded: needs \['rewards'\], got \['group_index'\]"):
        bounded(group_index=3)
