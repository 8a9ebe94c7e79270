"""One verdict on one answer: text, exact numbers, structure; what is left needs a worker.

Layers 1 to 3 run in the parent: rlnorm.rewards.math.budget bounds their cost. A verdict that stays
`undecided` may be readable by math-verify (layer 4, rlnorm.rewards.math.symbolic).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rlnorm.errors import InputError
from rlnorm.lookup import choices
from rlnorm.rewards.math.budget import (
    MAX_ANSWER_CHARS,
    OverBudget,
    Undefined,
    UnknownCommand,
    Unparsable,
    start_work,
)
from rlnorm.rewards.math.choice import (
    choice_letter,
    labelled_letter,
    letter_after,
    stated_letter,
)
from rlnorm.rewards.math.compare import Policy, rationals_equal
from rlnorm.rewards.math.extract import Extraction, extract, extract_gold
from rlnorm.rewards.math.node import Node
from rlnorm.rewards.math.normalize import normalize
from rlnorm.rewards.math.parse import parse
from rlnorm.rewards.math.structure import equal
from rlnorm.rewards.text import after_reasoning, find_boxes
from rlnorm.rewards.types import Status

_NUMBER = re.compile(
    r"\s*\\?\$?\s*(?P<sign>[-+]?)\s*\\?\$?"
    r"(?P<whole>\d{1,3}(?:,\d{3})+|\d{1,400})?(?:\.(?P<places>\d{0,400}))?\s*",
    re.ASCII,
)


_EXACT = Policy()
_POLICY_VALUES = {"percent": ("ignore", "value", "strict"), "units": ("agree", "ignore")}


@dataclass(frozen=True, slots=True)
class Verdict:
    """layer: which one decided: text, number, choice, structure, countdown or symbolic."""

    status: Status
    layer: str
    why: str = ""
    answer: str = ""
    gold: str = ""
    """Set where undecided."""
    undecided: bool = False
    """True when layers 1 to 3 could not read it and a worker may try."""


def plain_number(text: str) -> Fraction | int | None:
    """`-1,234.50` and the like, exactly; None for anything else. The path most samples take."""
    match = _NUMBER.fullmatch(text)
    if match is None or (match["whole"] is None and not match["places"]):
        return None
    whole, places = (match["whole"] or "0").replace(",", ""), match["places"]
    sign = -1 if match["sign"] == "-" else 1
    if not places:
        return sign * int(whole)
    return Fraction(sign * int(whole + places), 10 ** len(places))


_STYLE = re.compile(r"\\(?:text|mbox|mathrm|textbf|mathbf|textit|operatorname)\s*\{([^{}]*)\}")
_WORD = re.compile(r"[a-z][a-z\s.'-]+", re.I)
_SPACE = re.compile(r"(?<![\d\s])\s+|\s++(?!\d)|\\(?= )")
_CAPITALS = re.compile(r"[A-Z]{3,}")
_OPTION = re.compile(
    r"(?:\\(?:text|textbf|mathbf|mathrm)\s*\{\s*\(?[A-J]\s*[).]?\s*\}|\([A-J]\)|[A-J][.)])\s+(?=\S)"
)
_SAID = {
    "allrealnumbers": r"\mathbb{R}", "allreals": r"\mathbb{R}", "emptyset": r"\emptyset",
    "nosolution": r"\emptyset", "nosolutions": r"\emptyset",
}  # fmt: skip
_EXCEPT = re.compile(
    r"(?:all\s+)?(?:the\s+)?real(?:s|\s+numbers)(?:\s+x)?,?\s+(?:except|excluding|other\s+than|but)(?:\s+for)?"
    r"\s+(?P<points>.+)",
    re.I,
)
_LABEL = re.compile(r"\b[a-z]\s*=\s*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}/\d{1,2}/\d{4}", re.ASCII)


def text_key(normalized: str) -> str:
    """Spelling without text wrappers and spaces; words of two letters or more in lower case.

    A space between two digits stays: 1 1/2 is not 11/2.
    """
    key = _STYLE.sub(r"\1", normalized)
    if len(key) <= 8:
        choice = re.fullmatch(r"\(?\s*([A-Za-z])\s*\)?[.:]?", key.strip())
        if choice:
            return choice[1]
    if _WORD.fullmatch(key):
        key = key.casefold()
    return _SPACE.sub("", key)


@lru_cache(maxsize=4096)
def _parsed(answer: str, thousands: bool) -> Node | str:
    """The node, or a text starting with ! (over budget), ? (unknown command) or . (unreadable)."""
    try:
        return parse(normalize(answer, thousands=thousands))
    except OverBudget as error:
        return f"!{error}"
    except RecursionError:
        return "!nested too deep"
    except UnknownCommand as error:
        return f"?{error}"
    except (Unparsable, ValueError) as error:
        return f".{error}"


def reads_as_math(answer: str) -> bool:
    """True when a bare answer parses, so that other spellings of it can match."""
    return plain_number(answer) is not None or isinstance(_parsed(answer, True), tuple)


def _readings(answer: str) -> list[bool]:
    """Commas as thousands, and, where that makes a difference, as separators."""
    return [True, False] if re.search(r"\d,\d{3}", answer) else [True]


def compare(gold: str, answer: str, policy: Policy = _EXACT) -> Verdict:
    """Layers 1 to 3 on two bare answers."""
    a, b = plain_number(gold), plain_number(answer)
    if a is not None and b is not None:
        decimal = isinstance(a, Fraction) or isinstance(b, Fraction)
        same = a == b or rationals_equal(Fraction(a), Fraction(b), decimal=decimal, policy=policy)
        if same or "," not in gold or "," not in answer:
            return _verdict(same, "number", answer)
    if len(answer) > MAX_ANSWER_CHARS or len(gold) > MAX_ANSWER_CHARS:
        if gold.strip() == answer.strip():
            return _verdict(True, "text", answer)
        return Verdict(Status.UNPARSABLE, "text", f"{len(answer)} characters", answer[:100])
    return _compare_texts(gold, answer, policy)


@lru_cache(maxsize=8192)
def _compare_texts(gold: str, answer: str, policy: Policy) -> Verdict:
    left, right = normalize(gold), normalize(answer)
    if not right:
        return Verdict(Status.NO_ANSWER, "text", "empty", answer)
    keys = text_key(left), text_key(right)
    if left == right or keys[0] == keys[1]:
        return _verdict(True, "text", answer)
    if all(_CAPITALS.fullmatch(_STYLE.sub(r"\1", text).strip()) for text in (left, right)):
        return _verdict(False, "text", answer)  # capital letters are words, not products
    if _DATE.fullmatch(left):
        return _verdict(False, "text", answer)
    found = _structured(_said(keys[0], left, gold), _said(keys[1], right, answer), policy)
    option = _OPTION.match(right)
    if option and found.status is not Status.CORRECT and not _OPTION.match(left):
        return compare(gold, right[option.end() :], policy)
    return found


def _said(key: str, normalized: str, answer: str) -> str:
    """The formula of an answer that is words: `no solution`, `all real numbers except 2`."""
    found = _EXCEPT.fullmatch(_STYLE.sub(r"\1", normalized)) if "real" in normalized else None
    if found is None:
        return _SAID.get(key, answer)
    points = _LABEL.sub("", found["points"].replace(" and ", ","))
    return rf"\mathbb{{R}}\setminus\{{{points}\}}"


def _structured(gold: str, answer: str, policy: Policy) -> Verdict:
    why = ""
    start_work()
    for thousands in dict.fromkeys((*_readings(gold), *_readings(answer))):
        left, right = _parsed(gold, thousands), _parsed(answer, thousands)
        if isinstance(right, str) or isinstance(left, str):
            why = why or (right if isinstance(right, str) else str(left))
            continue
        try:
            if equal(left, right, policy):
                return _verdict(True, "structure", answer)
        except OverBudget as error:
            why = f"!{error}"
        except (Undefined, RecursionError) as error:
            why = f"!{error or 'too deep'}"
    if not why:
        return _verdict(False, "structure", answer)
    undecided = why[0] == "?"
    return Verdict(Status.UNPARSABLE, "structure", why[1:], answer, gold, undecided)


def _verdict(same: bool, layer: str, answer: str) -> Verdict:
    return Verdict(Status.CORRECT if same else Status.WRONG, layer, answer=answer[:200])


def verify(gold: str, completion: str, policy: Policy = _EXACT) -> Verdict:
    """Layers 1 to 3 on a gold (bare or a full reference text) and a model's response."""
    bare = extract_gold(gold)
    if not bare:
        return Verdict(Status.GOLD_ERROR, "text", "the gold answer is empty")
    found = extract(completion)
    letter = choice_letter(bare) if len(bare) < 12 and not bare.isdigit() else None
    if letter is not None:
        chosen = _chosen(found, completion)
        if chosen is not None:
            return _verdict(chosen == letter, "choice", chosen)
    if found.answer is None:
        status = Status.WRONG if found.rejected else Status.NO_ANSWER
        return Verdict(status, "text", found.why)
    return compare(bare, found.answer, policy)


def _chosen(found: Extraction, completion: str) -> str | None:
    """The option letter of a response, from its answer or, without a box, from its words."""
    if found.rejected:
        return None
    answer = found.answer or ""
    letter = choice_letter(answer) or labelled_letter(answer)
    text = after_reasoning(completion)
    if text is not None and not find_boxes(text):
        tail = text[-2000:]
        letter = stated_letter(tail) if letter is None else letter_after(answer, tail) or letter
    return letter


def check_policy(table: Mapping[str, object], where: str) -> Policy:
    """A Policy from a config table; a wrong name or value is an InputError."""
    if not table:
        return _EXACT
    known = Policy.__dataclass_fields__
    for name, value in table.items():
        if name not in known:
            raise InputError(f"{where}.{name}: {choices(name, known)}")
        allowed = _POLICY_VALUES.get(name)
        if allowed is not None and value not in allowed:
            raise InputError(f"{where}.{name} = {value!r}: allowed {sorted(allowed)}")
        if allowed is None and not (isinstance(value, int | float) and 0 <= value < 1e6):
            raise InputError(f"{where}.{name} = {value!r}: needs a number from 0")
    return Policy(**table)  # type: ignore[arg-type]  # checked one by one above
