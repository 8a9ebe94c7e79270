"""Multiple choice: the gold is one letter, and the response names exactly one."""

import re

from rlnorm.rewards.math.phrases import is_supposed

_LETTER = re.compile(r"(?:(?i:option|choice)\s+)?\(?\s*([A-J])\s*\)?[.:]?")
_STATED = re.compile(
    r"(?:answer|option|choice|respuesta|réponse|antwort|risposta|resposta|ответ)\b"
    r"(?P<gap>[^.\n]{0,30}?(?:\bis\b|:|\bbe\b|\bes\b|\best\b|\bist\b)?[^.\nA-Za-z]{0,6}"
    r"(?:for sure |definitely |clearly |option |choice )?)\(?\b(?P<letter>[A-J])\b(?!['’])"
)
_CHINESE = re.compile(
    r"(?<![不非没])(?:答案|正解|答え|정답|故?选择?|應選|应选)(?P<gap>[是为為は은는:：\s]*)[(（]?(?P<letter>[A-J])(?![A-Za-z])"
)
_BELIEVED = re.compile(
    r"(?i:\b(?:it['’]s|it is|it must be|it has to be|that['’]s|going with|must be|leaves"
    r"|i(?:['’]d| would) (?:say|go with|pick|choose)|i(?:['’]ll| will) (?:go with|pick|choose)"
    r"|i (?:choose|pick|select|think|believe))|(?:\A|[.!?\n]\s*)(?:so|therefore|thus|hence)),?"
    r"(?P<gap>\s+(?:definitely |clearly |option |choice |answer )?[*$]{0,2})"
    r"\(?(?P<letter>[A-J])\b\)?[*$]{0,2}"
    r"(?=\s*(?:[.,;:!)]|$|\n|because\b|since\b|as\b))(?!['’])"
)
_AFFIRMED = re.compile(
    r"(?P<gap>)(?<![A-Za-z])(?<!or )(?<!and )(?<!not )\(?(?P<letter>[A-J])\)?[*$]{0,2}"
    r" is (?:the )?(?:correct|right|best|answer)\b"
)
_CHOSEN = re.compile(
    r"(?:\A|[.!?\n]\s*)(?i:(?:(?:so|therefore|thus|hence),?\s+)?(?:choose|select|pick))"
    r"(?P<gap>\s+(?:option |choice |answer )?[*$]{0,2})\(?(?P<letter>[A-J])\b\)?[*$]{0,2}"
    r"(?=\s*(?:[.!]|$|\n))"
)
_OPEN_STILL = re.compile(r"[^.\n]*\b(?:but|or|maybe|perhaps|might|could)\b[^.\n]*\b[A-J]\b")
_LEADING = re.compile(r"\(?(?P<letter>[A-J])\)?\s*(?:[.):,]|$)")
_LABEL = re.compile(r"(?<![A-Za-z(])(?:\(?(?P<a>[A-J])\s*[).:](?=\s|$)|\((?P<b>[A-J])\))")
_ANOTHER = re.compile(
    r"[).:\s*$）]*(?:[,、，/&]|\b(?:or|and|ou|y|o|et|e|oder|und|или|и)\b|或者?|和|与|還是|还是|及|または|か|또는)"
    r"[\s*$]*[(（]?[A-J](?![A-Za-z'’])"
)
_ANOTHER_LATER = re.compile(r"[^.\n]*\b(?:or|oder|ou|или)\s+(?:that\s+)?[(*$]{0,2}[A-J]\b(?!['’])")
_DENIED_BEFORE = re.compile(
    r"\b(?:not|no|pas|nicht|non|não|не|cannot|never|neither|either|both)\b|n['’]t\b"
)
_DENIED_AFTER = re.compile(r"\W{0,4}(?:is|are)(?:n['’]t|\s+(?:not|wrong|incorrect|false))\b")
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|boldsymbol|bm|mbox|underline"
    r"|textcolor\{[^{}]*\}|operatorname)\s*\{([^{}]*)\}"
)


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
    stated = _last_statement(text)
    start = text.strip().lstrip("*$")
    found, where = (stated, text) if stated else (_LEADING.match(start), start)
    if found is None or _ANOTHER.match(where, found.end("letter")):
        return None
    return found["letter"]


def letter_after(answer: str, text: str) -> str | None:
    """The letter that a response states after it gave an answer, as in `A. Wait, it is B.`"""
    rest = text[text.rfind(answer) + len(answer) :]
    stated = _last_statement(rest)
    if stated is None or _ANOTHER.match(rest, stated.end("letter")):
        return None
    return stated["letter"]


def _is_open(pattern: re.Pattern[str], match: re.Match[str], text: str) -> bool:
    """True for a supposition, a question, and one of two statements joined by `or`."""
    supposed = is_supposed(text, match.start())
    asked = re.match(r"[^.!\n。]{0,80}[?？]", text[match.end() :])
    two = pattern is _AFFIRMED and _ANOTHER_LATER.match(text, match.end())
    return bool(supposed or asked or two)


def _last_statement(text: str) -> re.Match[str] | None:
    stated = None
    for pattern in (_STATED, _CHINESE, _BELIEVED, _AFFIRMED, _CHOSEN):
        for match in pattern.finditer(text):
            denied = _DENIED_BEFORE.search(match["gap"]) or _DENIED_AFTER.match(text, match.end())
            hedged = pattern is _BELIEVED and _OPEN_STILL.match(text, match.end())
            undecided = bool(hedged) or _is_open(pattern, match, text)
            later = stated is None or match.start("letter") >= stated.start("letter")
            if later and not denied and not undecided:
                stated = match
    return stated
