"""The allow-list tokenizer: anything it does not know is Unparsable, before any evaluation."""

import re
from dataclasses import dataclass

from rlnorm.rewards.math.budget import MAX_DIGITS, MAX_TOKENS, OverBudget, Unparsable, words
from rlnorm.rewards.math.units import (
    SCALES,
    THINGS,
    UNIT_WORDS,
    is_unit_letter,
    split_scale,
    unit_key,
)

FUNCTIONS = words(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech "
    "csch arcsinh arccosh arctanh arsinh arcosh artanh asin acos atan asinh acosh atanh ln log lg "
    "exp sqrt cbrt abs floor ceil gcd lcm min max mod det binom"
)
GREEK = words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi "
    "Omega ell hbar angle triangle"
)
PERCENT = words(
    "percent pct percentage prozent procent процент процента процентов パーセント 퍼센트 百分点"
)
WORD_CONSTANTS = {"pi": "\\pi", "infty": "\\infty", "infinity": "\\infty", "oo": "\\infty"}
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0903\u093a-\u0963"
    "\u0980-\u0983\u09bc-\u09e3\u0a01-\u0a51\u0a81-\u0acd\u0b01-\u0bcd\u0c00-\u0ccd\u0d00-\u0ddf"
    "\u0e31-\u0e4e\u200c\u200d"
)
_TOKEN = re.compile(
    r"\\(?P<style>text|mathbb|mathcal|mathfrak|mathscr|operatorname\*?)\s*"
    r"\{(?P<body>[^{}^]*+(?:\^(?:\{-?\d\})?+[^{}^]*+)*+)\}"
    r"|(?P<num>(?:\d+(?:\.\d+|\.(?!\.))?|(?<!\.)\.\d+)(?:[eE][+-]?\d+(?![\dA-Za-z]))?)"
    r"|(?P<cmd>\\(?:[A-Za-z]+|[{}\\|]))"
    rf"|(?P<cjk>[{_CJK}]+)"
    rf"|(?P<word>[^\W\d_{_CJK}](?:[^\W\d_{_CJK}]|[{_MARKS}])*+)"
    r"|(?P<dots>\.\.\.)"
    r"|(?P<op>\*\*|<=|>=|!=|[-+*/^_=<>!|%()\[\]{}:,;&'])"
    r"|(?P<space>\s+)"
)
_JOINERS = words("and or und oder или и 或 或者 和 与 與 及 以及 または と 또는 와 과 그리고")
_JOINERS_IN_TEXT = words("et ou y o e ve veya atau dan &")
_SAYING = re.compile(r"^(?:the\s+)?(?:final\s+)?answer(?:\s+is|:)\s*(?=[-+]?\d)", re.I)
_LEADING_NUMBER = re.compile(r"[-+]?\d[\d.,/: ]*")
_BARE_RATE = re.compile(r"(?:(?<=\d m)/s(?:\s*\^\s*\{?2\}?)?|(?<=\d g)/L|(?<=\d N)/m)\s*$")
"""After a letter that is a unit only in such a pair: `5 m/s`, where `5 m` is a product."""
_DOTS = frozenset((r"\ldots", r"\dots", r"\cdots", r"\dotsc", r"\dotsb"))


@dataclass(frozen=True, slots=True)
class Token:
    """kind: num, name, cmd, fn, text, op, dots, unit, percent, sep, end."""

    kind: str
    text: str
    spaced: bool = False
    """True when white space precedes it."""


def _word(word: str, spaced: bool, after_value: bool) -> list[Token]:
    low = word.lower()
    if word in FUNCTIONS and not (word == "min" and after_value):
        return [Token("fn", word, spaced)]
    if low in _JOINERS:
        return [Token("sep", low, spaced)]
    if low in PERCENT:
        return [Token("percent", "%", spaced)]
    if low == "not":
        raise Unparsable("a denial")
    if word in WORD_CONSTANTS:
        return [Token("cmd", WORD_CONSTANTS[word], spaced)]
    if after_value and (low in SCALES or not word.isascii()):
        return _scaled(word, spaced)
    if after_value and (word in UNIT_WORDS or (spaced and word in THINGS)):
        return [Token("unit", word, spaced)]
    if len(word) > 1 and word in GREEK:
        return [Token("cmd", "\\" + word, spaced)]
    if not word.isascii() or (len(word) > 3 and not word.isupper()):
        return [Token("text", word, spaced)]
    return [Token("name", c, spaced and i == 0) for i, c in enumerate(word)]


def _scaled(words_: str, spaced: bool) -> list[Token]:
    """Words after a value: number words multiply it, the others are a unit or a remark."""
    out: list[Token] = []
    rest = words_.strip()
    while rest:
        first, _, others = rest.partition(" ")
        factors, left = split_scale(first)
        if not factors:
            break
        for factor in factors:
            out += [Token("op", "*", spaced), Token("num", factor)]
        rest = f"{left} {others}".strip()
    return [*out, Token("text", rest, spaced)] if rest else out


def _styled(style: str, body: str, spaced: bool, after_value: bool) -> list[Token]:
    joins = body.strip().lower() in _JOINERS_IN_TEXT and body != body.strip()
    body = body.strip()
    bare = body.strip("() .,")
    if not body:
        return []
    if style in ("mathbb", "mathcal", "mathfrak", "mathscr"):
        return [Token("name", f"set {body}" if style == "mathbb" else body, spaced)]
    if joins or bare.lower() in _JOINERS:
        return [Token("sep", bare.lower(), spaced)]
    if bare.lower() in PERCENT or bare in ("%", "\\%"):
        return [Token("percent", "%", spaced)]
    if body in FUNCTIONS and (style.startswith("operatorname") or not after_value):
        return [Token("fn", body, spaced)]
    if (
        len(body) == 1
        and body.isascii()
        and body.isalpha()
        and not (after_value and is_unit_letter(body))
    ):
        return [Token("name", body, spaced)]
    body = _SAYING.sub("", body)
    number = _LEADING_NUMBER.match(body)
    if number:
        rest = _styled(style, body[number.end() :], True, True)
        return tokenize(number.group().rstrip(" .,:"))[:-1] + rest
    return _scaled(body, spaced) if after_value else [Token("text", body, spaced)]


def _in_unit(out: list[Token]) -> bool:
    """True after a unit, its power, and a stroke or dot: what comes next is part of the unit."""
    at = len(out) - 1
    if at > 0 and out[at].text in ("/", "\\cdot"):
        at -= 1
    if at > 3 and out[at].text == "}":
        at -= 2 if out[at - 2].text == "{" else 3
        at -= 1
    elif at > 1 and out[at].kind == "num":
        at -= 1
    if out[at : at + 1] and out[at].text == "^":
        at -= 1
    return at >= 0 and out[at].kind in ("unit", "text") and bool(unit_key(out[at].text))


def tokenize(text: str) -> list[Token]:
    """Tokens of a normalized answer, an `end` token last. Raises Unparsable or OverBudget."""
    out: list[Token] = []
    position, spaced = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unparsable(f"character {text[position]!r}")
        position = match.end()
        kind, found = match.lastgroup, match.group()
        if kind == "space":
            spaced = True
            continue
        after_value = bool(out) and (
            out[-1].kind in ("num", "unit", "percent") or out[-1].text in (")", "}", "\\}", "\\pi")
        )
        if kind == "body":
            out += _styled(match["style"], match["body"], spaced, after_value or _in_unit(out))
        elif kind in ("word", "cjk"):
            if is_unit_letter(found) and (_in_unit(out) or _BARE_RATE.match(text, position)):
                out.append(Token("unit", found, spaced))
            else:
                out += _word(found, spaced, after_value or _in_unit(out))
        elif kind == "cmd" and found[1:] in FUNCTIONS:
            out.append(Token("fn", found[1:], spaced))
        elif kind == "dots" or found in _DOTS:
            out.append(Token("dots", "...", spaced))
        elif found == "%":
            out.append(Token("percent", "%", spaced))
        else:
            if kind == "num" and len(found) > MAX_DIGITS:
                raise OverBudget(f"a number of {len(found)} digits")
            out.append(Token(str(kind), found, spaced))
        spaced = False
        if len(out) > MAX_TOKENS:
            raise OverBudget(f"more than {MAX_TOKENS} tokens")
    out.append(Token("end", ""))
    return out
