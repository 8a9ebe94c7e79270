"""Multiple choice: the gold is one letter, and the response names exactly one."""

import re

_LETTER = re.compile(r"\(?\s*([A-J])\s*\)?[.:]?")
_STATED = re.compile(
    r"(?:answer|option|choice)\b[^.\n]{0,30}?(?:\bis\b|:|\bbe\b)?[^.\nA-Za-z]{0,6}"
    r"(?:for sure |definitely |clearly |option |choice )?\(?\b([A-J])\b(?!['’])"
)
_LEADING = re.compile(r"\(?([A-J])\)?\s*(?:[.):,]|$)")
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")


def choice_letter(text: str) -> str | None:
    """The letter when the text is one and nothing more, as in `(B)` or `\\text{B}.`"""
    bare = _WRAPPED.sub(r"\1", text).strip(" $.*\n")
    match = _LETTER.fullmatch(bare)
    return match[1] if match else None


def labelled_letter(text: str) -> str | None:
    """The letter that opens an answer such as `(B) 12` or `B. 12`."""
    match = re.match(
        r"\(?([A-J])\s*[).:](?=\s|$)|\(([A-J])\)", _WRAPPED.sub(r"\1", text).strip(" $*")
    )
    return (match[1] or match[2]) if match else None


def stated_letter(text: str) -> str | None:
    """The letter a response without a box states: the last `answer is X`, else a leading `X.`"""
    stated = _STATED.findall(text)
    if stated:
        return str(stated[-1])
    leading = _LEADING.match(text.strip().lstrip("*$"))
    return leading[1] if leading else None
