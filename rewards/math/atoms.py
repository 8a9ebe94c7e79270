"""The leaves of the grammar: literals, symbols, fences, fractions, matrices."""

from fractions import Fraction

from rlnorm.rewards.math.budget import OverBudget, UnknownCommand, Unparsable, words
from rlnorm.rewards.math.node import Grammar, Node
from rlnorm.rewards.math.tokens import GREEK, Token

_MATRICES = words("matrix pmatrix bmatrix Bmatrix smallmatrix array vmatrix cases")
_FENCES = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceil")}
CONSTANTS: dict[str, tuple[object, ...]] = {
    "\\pi": ("pi",), "\\infty": ("inf",), "\\emptyset": ("set", ()), "\\varnothing": ("set", ()),
    "\\top": ("sym", "\\top"), "\\intercal": ("sym", "\\intercal"), "\\exponentialE": ("e",),
    "\\imaginaryI": ("i",),
}  # fmt: skip
_MAX_SCALE = 20_000
_LETTERS: dict[str, tuple[object, ...]] = {"e": ("e",), "i": ("i",), "I": ("i",)}


def parse_number(text: str) -> Fraction:
    """An int, decimal or scientific literal, exactly."""
    mantissa, _, scale = text.lower().partition("e")
    if scale and abs(int(scale[:8])) > _MAX_SCALE:
        raise OverBudget(f"the literal {text[:20]}")
    return Fraction(mantissa.rstrip(".") + (f"e{scale}" if scale else ""))


def parse_atom(parser: Grammar) -> Node:
    """One literal, symbol, bracket or command."""
    token = parser.peek()
    if token.kind == "num":
        parser.take()
        return _number(parser, token)
    if token.kind == "name":
        parser.take()
        return _symbol(parser, token.text)
    if token.kind == "fn":
        return parser.function()
    if token.kind == "dots":
        parser.take()
        return ("dots",)
    if token.text in ("(", "[", "{", "\\{", "\\langle"):
        parser.depth += 1
        if parser.depth > 2 * 40:
            raise OverBudget("nested too deep")
        node = parser.bracket()
        parser.depth -= 1
        return node
    if token.text in ("|", "\\|"):
        return _absolute(parser)
    if token.kind == "cmd":
        parser.take()
        return _command(parser, token.text)
    raise Unparsable(f"unexpected {token.text!r}")


def _number(parser: Grammar, token: Token) -> Node:
    value = parse_number(token.text)
    if parser.peek().text == "_" and token.text.isdigit():
        parser.take()
        base = parser.atom()
        if base[0] != "num":
            raise Unparsable("a number with a subscript that is not a base")
        return ("based", token.text.lstrip("0") or "0", int(base[1]))
    return ("num", value, "." in token.text)


def _subscript(parser: Grammar) -> str:
    if not parser.accept("{"):
        return parser.take().text
    parts, depth = list[str](), 1
    while True:
        token = parser.take()
        if token.kind == "end":
            raise Unparsable("an open subscript")
        depth += {"{": 1, "}": -1}.get(token.text, 0)
        if depth == 0:
            return "".join(parts)
        parts.append(token.text)


def _symbol(parser: Grammar, name: str) -> Node:
    while True:
        if parser.accept("_"):
            name += "_" + _subscript(parser)
        elif parser.accept("'"):
            name += "'"
        else:
            return _LETTERS.get(name, ("sym", name))


def _absolute(parser: Grammar) -> Node:
    bar = parser.take().text
    parser.bars += 1
    inside = parser.sum()
    parser.bars -= 1
    parser.expect(bar)
    return ("call", "abs", (inside,))


def _command(parser: Grammar, name: str) -> Node:
    if name in CONSTANTS:
        return CONSTANTS[name]
    if name == "\\frac":
        return ("div", parser.argument(), parser.argument())
    if name in ("\\dbinom", "\\tbinom"):
        return ("call", "binom", (parser.argument(), parser.argument()))
    if name in _FENCES:
        closing, function = _FENCES[name]
        inside = parser.sum()
        parser.expect(closing)
        return ("call", function, (inside,))
    if name == "\\begin":
        return _environment(parser)
    if name in ("\\overline", "\\vec", "\\hat", "\\bar", "\\overrightarrow", "\\widehat", "\\dot"):
        return ("call", name, (parser.atom(),))
    if name in ("\\boxed", "\\fbox", "\\ensuremath"):
        return parser.atom()
    if name in ("\\angle", "\\triangle"):
        return ("call", name, (parser.product(),))
    if name[1:] in GREEK:
        return _symbol(parser, name)
    raise UnknownCommand(f"command {name}")


def _name_in_braces(parser: Grammar) -> str:
    parser.expect("{")
    letters = []
    while not parser.accept("}"):
        token = parser.take()
        if token.kind == "end":
            raise Unparsable("an open environment name")
        letters.append(token.text)
    return "".join(letters)


def _environment(parser: Grammar) -> Node:
    name = _name_in_braces(parser)
    if name not in _MATRICES:
        raise Unparsable(f"environment {name}")
    if name == "array":
        _name_in_braces(parser)
    rows: list[tuple[Node, ...]] = []
    row: list[Node] = []
    while True:
        if parser.accept("\\end"):
            break
        if parser.accept("&"):
            continue
        if parser.accept("\\\\"):
            rows.append(tuple(row))
            row = []
            continue
        row.append(parser.statements())
    if _name_in_braces(parser) != name:
        raise Unparsable(f"environment {name} ends in another name")
    rows = [r for r in (*rows, tuple(row)) if r]
    if name == "vmatrix":
        return ("call", "det", (("matrix", tuple(rows)),))
    if name == "cases":
        return ("list", tuple(item for r in rows for item in r))
    return ("matrix", tuple(rows))


def without_braces(terms: list[Node]) -> list[Node]:
    r"""`-\{1+2\}` as -(1+2), unless it may take a set from a set."""
    first = terms[0]
    if first[0] in ("set", "tuple", "union") or (first[0] == "sym" and len(terms) > 1):
        return terms
    return [
        (term[0], grouped(term[1])) if term[0] == "neg" else (grouped(term) if at else term)
        for at, term in enumerate(terms)
    ]


def grouped(node: Node) -> Node:
    """The content of braces around one value where they can only group: 2{3 + 4}."""
    return node[1][0] if node[0] == "set" and len(node[1]) == 1 else node
