r"""The strict extractor: what in a response is the answer. Never "the last number".

In order, after the reasoning: the last box, or boxes joined in one sentence; `####`; `<answer>`;
`Answer:` or "the answer is"; a response that is nothing but one expression or one formula.
"""

import re
from typing import NamedTuple

from rlnorm.rewards.math.joined import joined_boxes
from rlnorm.rewards.math.layout import single_backslashes
from rlnorm.rewards.math.normalize import restored_escapes
from rlnorm.rewards.math.phrases import (
    AGAIN,
    DENIED,
    ENGLISH,
    FOREIGN,
    HEADING,
    HEDGES,
    LABELLED_LINE,
    LONE_LABEL,
    NOUNS,
    SAYS,
    TAGS,
    is_supposed,
)
from rlnorm.rewards.math.tokens import FUNCTIONS, PERCENT
from rlnorm.rewards.math.units import SCALES, UNIT_WORDS
from rlnorm.rewards.text import Box, after_reasoning, find_boxes, first_turn

_TAIL_CHARS = 20_000
_SHORT_CHARS = 300
_FOREIGN_TAIL = 2000
_NOUN = re.compile("answer|solution|ans")
_HASHES = re.compile(r"####[ \t]*(?P<a>[^\n]*)")
_FORMULA = re.compile(
    r"\$\$(?P<a>(?:[^$\\]|\\.)+)\$\$|\$(?P<b>(?:[^$\\]|\\.)+)\$"
    r"|\\\((?P<c>(?:[^\\]|\\[^)])+)\\\)|\\\[(?P<d>(?:[^\\]|\\[^\]])+)\\\]",
    re.DOTALL,
)
_PROSE = re.compile(r"[A-Za-z]{4,}")
_PLAIN_WORDS = UNIT_WORDS | PERCENT | FUNCTIONS | SCALES.keys()
_VALUE = re.compile(r"\d|^\W*[A-J]\W*$")
_BETWEEN_FORMULAS = re.compile(r"(?:\s|[,;&]|\band\b|\bor\b)*+")


class Extraction(NamedTuple):
    """answer is None if nothing claims to be one (`why` says so); rejected: it is unusable."""

    answer: str | None
    why: str = ""
    rejected: bool = False


def extract(completion: str) -> Extraction:
    """The answer text of a model's response."""
    text = after_reasoning(completion)
    if text is None:
        return Extraction(None, "the reasoning never ends")
    boxes = find_boxes(text)
    if boxes:
        return _from_boxes(text, boxes)
    return _from_text(text[-_TAIL_CHARS:].strip())


def extract_gold(gold: str) -> str:
    """A gold is its box when it has one, else what follows `####`, else all of it."""
    gold = first_turn(restored_escapes(gold))
    boxes = find_boxes(gold)
    if boxes:
        return _from_boxes(gold, boxes).answer or ""
    hashes = _HASHES.findall(gold) if "####" in gold else []
    return hashes[-1].strip() if hashes else gold.strip()


def _inner(content: str) -> str:
    """A nested box is replaced by its content."""
    for _ in range(8):
        inner = find_boxes(content)
        if len(inner) != 1 or inner[0].content is None:
            return content
        content = content[: inner[0].start] + inner[0].content + content[inner[0].end :]
    return content


def _from_boxes(text: str, boxes: list[Box]) -> Extraction:
    last = boxes[-1].content
    if last is None or not last.strip():
        return Extraction(None, "the last box is empty or cut off", rejected=True)
    parts = [_inner(box.content or "") for box in joined_boxes(text, boxes)]
    if len(parts) == 1:
        return Extraction(parts[0] + _percent_after(text[boxes[-1].end :]))
    return Extraction(" , ".join(dict.fromkeys(part.strip() for part in parts)))


def _percent_after(rest: str) -> str:
    match = re.match(r"[\s$]*(?:\\?%|percent\b|pct\b)", rest[:40])
    return "\\%" if match else ""


def _tagged(text: str) -> str | None:
    for opening, closing in TAGS:
        _, opened, rest = text.rpartition(opening)
        inside, closed, _ = rest.partition(closing)
        if opened and closed:
            return inside
    return None


def _from_text(text: str) -> Extraction:
    if "\\\\" in text and "\\begin" not in text:
        text = single_backslashes(text)
    for found in (_tagged(text), _hashed(text), _hoped(text)):
        if found is not None and found.strip():
            return Extraction(SAYS.sub("", found.strip(), 1))
    marked = _marked(text)
    if marked is not None:
        stated = _stated(marked)
        return Extraction(None, "a denial") if DENIED.match(stated) else Extraction(stated)
    if len(text) <= _SHORT_CHARS:
        formula = _one_formula(text)
        if formula is not None:
            return Extraction(formula)
        labelled = LONE_LABEL.fullmatch(text)
        bare = labelled["a"] if labelled else text
        if text and not HEDGES.search(text) and (" " not in bare or _is_plain(bare)):
            return Extraction(bare)
    return Extraction(None, "no box, marker or lone expression")


def _marked(text: str) -> str | None:
    """The line after the last marker: `Answer: x`, a heading `Answer` with x below, `答案：x`.

    A label such as `Total: x` counts on the last line only.
    """
    found = _english(text)
    if found is None or not text.isascii():
        start = max(0, len(text) - _FOREIGN_TAIL)
        for other in (_last(FOREIGN, text, start), _last(HEADING, text, start)):
            later = other and (found is None or other.start() > found.start())
            if other and later and not is_supposed(text, other.start()):
                found = other
    if found is None:
        found = LABELLED_LINE.match(text[text.rfind("\n") + 1 :])
    return found["a"] if found is not None else None


def _english(text: str) -> re.Match[str] | None:
    """The first `answer is x` of the last line that has one, or the heading that it is."""
    lowered = text.lower()
    end = len(text)
    while (last := max(lowered.rfind(noun, 0, end) for noun in NOUNS)) >= 0:
        start = end = text.rfind("\n", 0, last) + 1
        for noun in _NOUN.finditer(lowered, start, last + 8):
            found = ENGLISH.match(text, noun.start())
            if found and not is_supposed(text, noun.start()):
                return found
        if heading := HEADING.match(text, start):
            return heading
    return None


def _stated(line: str) -> str:
    """The text after the line's last marker that precedes a value, else after its first marker."""
    for later in reversed(AGAIN.split(line)[1:]):
        value = _one_formula(later) or _first_sentence(later)
        if _VALUE.search(value) and not HEDGES.search(value) and _is_plain(value):
            return value
    return _one_formula(line) or _first_sentence(line)


def _is_plain(text: str) -> bool:
    """True without words other than those of mathematics and of units."""
    return all(w in _PLAIN_WORDS for w in _PROSE.findall(re.sub(r"\\[A-Za-z]+", "", text)))


def _last(pattern: re.Pattern[str], text: str, start: int = 0) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text, start):
        found = match
    return found


def _hashed(text: str) -> str | None:
    """What follows the last `####`, unless it is a heading: words, and more text below."""
    found = _last(_HASHES, text) if "####" in text else None
    if found is None or (text[found.end() :].strip() and not _is_plain(found["a"])):
        return None
    return found["a"]


def _hoped(text: str) -> str | None:
    """x of `Final Answer: ... is x. I hope it is correct`."""
    end = text.rfind("I hope it is correct")
    if end < 0:
        return None
    sentence = text[max(0, end - 400) : end].rpartition("\n")[2]
    start = sentence.lower().find("final answer")
    subject, found, answer = sentence[start:].rpartition(" is ") if start >= 0 else ("", "", "")
    return answer.strip().removesuffix(".") if found and ":" in subject + answer else None


def _one_formula(text: str) -> str | None:
    """The content of the only formula in a short sentence that affirms it."""
    if len(text) > _SHORT_CHARS:
        return None
    formulas = list(_FORMULA.finditer(text))
    if len(formulas) == 1:
        match = formulas[0]
        around = text[: match.start()] + " " + text[match.end() :]
        if not HEDGES.search(around) and not re.search(r"\d", around):
            return next(g for g in match.groups() if g is not None) + _percent_after(
                text[match.end() :]
            )
    elif formulas and _BETWEEN_FORMULAS.fullmatch(_FORMULA.sub(" ", text)):
        return text
    return None


def _first_sentence(text: str) -> str:
    """Up to the end of the sentence: a full stop before a space or the end, as in `is 4 4/9.`"""
    end = re.search(
        r"\.(?=\s|$|\*)|。|I hope it is correct|<\||,? \(?(?:because|since)\b"
        r"|,\s(?:and\s)?(?:not|rather\sthan|pas|nicht|non|não|не)\s[$\\\d-](?![^\n]*\bbut\b)",
        text,
    )
    return (text[: end.start()] if end else text).strip()
