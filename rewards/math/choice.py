"""Multiple choice: the gold is one letter, and the response names exactly one."""

import re

_LETTER = re.compile(r"(?:(?i:option|choice)\s+)?\(?\s*([A-J])\s*\)?[.:]?")
_STATED = re.compile(
    r"(?:answer|option|choice)\b(?P<gap>[^.\n]{0,30}?(?:\bis\b|:|\bbe\b)?[^.\nA-Za-z]{0,6}"
    r"(?:for sure |definitely |clearly |option |choice )?)\(?\b(?P<letter>[A-J])\b(?!['’])"
)
_LEADING = re.compile(r"\(?(?P<letter>[A-J])\)?\s*(?:[.):,]|$)")
_LABEL = re.compile(r"(?<![A-Za-z(])(?:\(?(?P<a>[A-J])\s*[).:](?=\s|$)|\((?P<b>[A-J])\))")
_ANOTHER = re.compile(r"[).:\s*$]*(?:,|/|&|\bor\b|\band\b)[\s*$]*\(?[A-J]\b(?!['’])")
_DENIED_BEFORE = re.compile(r"\b(?:not|cannot|never|neither|either|both)\b|n['’]t\b")
_DENIED_AFTER = re.compile(r"\W{0,4}(?:is|are)(?:n['’]t|\s+(?:not|wrong|incorrect|false))\b")
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")


def choice_letter(text: str) -> str | None:
    """The letter when the text is one and nothing more, as in `(B)` or `\\text{B}.`"""
    bare = _WRAPPED.sub(r"\1", text).strip(" $.*\n")
    match = _LETTER.fullmatch(bare)
    return match[1] if match else None


def labelled_letter(text: str) -> str | None:
    """The letter that opens an answer such as `(B) 12` or `B. 12`, unless others follow it."""
    bare = _WRAPPED.sub(r"\1", text).strip(" $*")
    first = _LABEL.match(bare)
    if first is None or _ANOTHER.match(bare, first.end()) or _LABEL.search(bare, first.end()):
        return None
    return first["a"] or first["b"]


def stated_letter(text: str) -> str | None:
    """The letter a response without a box states: the last `answer is X`, else a leading `X.`

    A letter that is denied does not count; several letters are no answer.
    """
    stated = None
    for match in _STATED.finditer(text):
        if not _DENIED_BEFORE.search(match["gap"]) and not _DENIED_AFTER.match(text, match.end()):
            stated = match
    start = text.strip().lstrip("*$")
    found, where = (stated, text) if stated else (_LEADING.match(start), start)
    if found is None or _ANOTHER.match(where, found.end("letter")):
        return None
    return found["letter"]
