"""The allow-list tokenizer: anything it does not know is Unparsable, before any evaluation."""

import re
from dataclasses import dataclass

from rlnorm.rewards.math.budget import MAX_DIGITS, MAX_TOKENS, OverBudget, Unparsable, words
from rlnorm.rewards.math.units import SCALES, UNIT_WORDS, unit_key

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
PERCENT = frozenset(("percent", "pct", "percentage"))
WORD_CONSTANTS = {"pi": "\\pi", "infty": "\\infty", "infinity": "\\infty", "oo": "\\infty"}
_TEXT_COMMANDS = (
    "text|mbox|hbox|textbf|textit|textrm|texttt|textsf|textnormal|emph|mathrm|mathbf|mathit|mathsf"
    "|mathcal|mathbb|mathfrak|operatorname\\*?"
)
_TOKEN = re.compile(
    rf"\\(?P<style>{_TEXT_COMMANDS})\s*\{{(?P<body>[^{{}}^]*+(?:\^(?:\{{-?\d\}})?+[^{{}}^]*+)*+)\}}"
    r"|(?P<num>(?:\d+(?:\.\d+|\.(?!\.))?|(?<!\.)\.\d+)(?:[eE][+-]?\d+(?![\dA-Za-z]))?)"
    r"|(?P<cmd>\\(?:[A-Za-z]+|[{}\\|]))"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<dots>\.\.\.)"
    r"|(?P<op>\*\*|<=|>=|!=|[-+*/^_=<>!|%()\[\]{}:,;&'])"
    r"|(?P<space>\s+)"
)
_SAYING = re.compile(r"^(?:the\s+)?(?:final\s+)?answer(?:\s+is|:)\s*(?=[-+]?\d)", re.I)
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
    if low in ("and", "or"):
        return [Token("sep", low, spaced)]
    if low in PERCENT:
        return [Token("percent", "%", spaced)]
    if word in WORD_CONSTANTS:
        return [Token("cmd", WORD_CONSTANTS[word], spaced)]
    if low in SCALES and after_value:
        return [Token("op", "*", spaced), Token("num", SCALES[low])]
    if word in UNIT_WORDS and after_value:
        return [Token("unit", word, spaced)]
    if len(word) > 1 and word in GREEK:
        return [Token("cmd", "\\" + word, spaced)]
    if len(word) > 3 and not word.isupper():
        return [Token("text", word, spaced)]
    return [Token("name", c, spaced and i == 0) for i, c in enumerate(word)]


def _styled(style: str, body: str, spaced: bool, after_value: bool) -> list[Token]:
    body = body.strip()
    bare = body.strip("() .,")
    if not body:
        return []
    if style == "mathbb":
        return [Token("name", f"set {body}", spaced)]
    if bare.lower() in ("and", "or"):
        return [Token("sep", bare.lower(), spaced)]
    if bare.lower() in PERCENT or bare in ("%", "\\%"):
        return [Token("percent", "%", spaced)]
    if style.startswith(("operatorname", "mathrm")) and body in FUNCTIONS:
        return [Token("fn", body, spaced)]
    if len(body) == 1 and body.isalpha() and not after_value:
        return [Token("name", body, spaced)]
    body = _SAYING.sub("", body)
    number = re.match(r"[-+]?\d[\d.,/ ]*", body)
    if number:
        rest = _styled(style, body[number.end() :], True, True)
        return tokenize(number.group().rstrip(" .,"))[:-1] + rest
    first, _, rest_of_body = body.partition(" ")
    if after_value and first.lower() in SCALES:
        return _word(first, spaced, True) + _styled(style, rest_of_body, True, True)
    return [Token("text", body, spaced)]


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
        after_value = bool(out) and (out[-1].kind in ("num", "unit") or out[-1].text in ")}")
        if kind == "body":
            of_unit = out[-2:-1] if out and out[-1].text in ("/", "\\cdot") else out[-1:]
            after_value |= bool(of_unit) and bool(unit_key(of_unit[0].text))
            out += _styled(match["style"], match["body"], spaced, after_value)
        elif kind == "word":
            out += _word(found, spaced, after_value)
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
