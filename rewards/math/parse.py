"""Recursive descent from tokens to small tuples; no evaluation happens here.

Node = (kind, *parts). Numbers: num(Fraction, is_decimal), sym(name), pi, e, i, inf, add, mul, div,
pow, neg, pm, mp, call(name, args), deg, pct, based(digits, base). Answers: list, tuple(open, close,
items), set, rel(operators, sides), union, inter, minus, matrix(rows), cases, ratio, groups, unit
(value, name), text, dots, builder(variable, condition).
"""

from fractions import Fraction

from rlnorm.rewards.math.atoms import CONSTANTS, grouped, parse_atom, without_braces
from rlnorm.rewards.math.budget import MAX_DEPTH, OverBudget, UnknownCommand, Unparsable
from rlnorm.rewards.math.node import Node
from rlnorm.rewards.math.tokens import GREEK, Token, tokenize
from rlnorm.rewards.math.units import is_void, unit_key

_RELATIONS = {
    "=": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "!=": "!=", "\\ne": "!=", "\\neq": "!=",
    "\\le": "<=", "\\leq": "<=", "\\leqslant": "<=", "\\ge": ">=", "\\geq": ">=", "\\lt": "<",
    "\\geqslant": ">=", "\\gt": ">", "\\in": "in", "\\equiv": "==", "\\approx": "~", "\\to": "->",
    "\\rightarrow": "->", "\\mapsto": "->", "\\notin": "notin", "\\subset": "subset",
    "\\subseteq": "subset", "\\sim": "sim", "\\parallel": "par", "\\perp": "perp",
}  # fmt: skip
_CLOSES = {"(": ")]", "[": "])", "\\{": ("\\}",), "{": "}", "\\langle": ("\\rangle",)}
_STARTS = frozenset(("(", "[", "\\{", "{", "\\langle", "\\lfloor", "\\lceil", "\\frac", "\\dbinom",
                     "\\begin"))  # fmt: skip


class Parser:
    """One pass over the tokens of one answer."""

    def __init__(self, text: str) -> None:
        self.tokens = tokenize(text)
        self.at = 0
        self.depth = 0
        self.bars = 0

    def peek(self) -> Token:
        """The next token."""
        return self.tokens[self.at]

    def take(self) -> Token:
        """Consume the next token; the end is never consumed."""
        if self.peek().kind == "end":
            raise Unparsable("ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def accept(self, *texts: str) -> bool:
        """Consume the next token if it is one of these."""
        if self.peek().text in texts and self.peek().kind in ("op", "cmd"):
            self.at += 1
            return True
        return False

    def expect(self, *texts: str) -> str:
        """Consume one of these or fail."""
        token = self.peek()
        if not self.accept(*texts):
            raise Unparsable(f"{token.text!r} where {' or '.join(texts)} belongs")
        return token.text

    def answer(self) -> Node:
        """The complete text."""
        node = self.statements()
        if self.peek().kind != "end":
            token = self.peek()
            kind = UnknownCommand if token.kind == "cmd" else Unparsable
            raise kind(f"unexpected {token.text!r}")
        return node

    def statements(self) -> Node:
        """`;`-separated groups of comma-separated items."""
        groups = [self.items()]
        while self.accept(";"):
            if self.peek().kind == "end" or self.peek().text in (")", "]", "\\}", "}"):
                break
            groups.append(self.items())
        if len(groups) == 1:
            found = groups[0]
            return found[0] if len(found) == 1 else ("list", tuple(found))
        if all(len(g) == 1 for g in groups):
            return ("list", tuple(g[0] for g in groups))
        return ("groups", tuple(tuple(g) for g in groups))

    def items(self) -> list[Node]:
        """Items separated by commas, `and`, `or`; a comma may stand before the word."""
        found = [self.relation()]
        while True:
            separated = False
            while self.peek().kind == "sep" or self.peek().text == ",":
                self.at += 1
                separated = True
            if not separated or self.peek().kind == "end":
                return found
            found.append(self.relation())

    def relation(self) -> Node:
        """a < b <= c as rel(("<", "<="), (a, b, c))."""
        if self.peek().kind == "text":
            words = self.text()
            says = words[1].endswith((" is", " are", " equals", ":")) and not is_void(words[1])
            introduces = self.accept("=") or says
            return self.relation() if introduces and self.peek().kind != "end" else words
        self.accept("\\therefore", "\\implies", "\\Rightarrow", "=", "\\approx")
        sides, operators = [self.set_expression()], []
        while (op := _RELATIONS.get(self.peek().text)) and self.peek().kind in ("op", "cmd"):
            self.at += 1
            operators.append(op)
            sides.append(self.set_expression())
        return ("rel", tuple(operators), tuple(sides)) if operators else sides[0]

    def text(self) -> Node:
        """A run of words; numbers in it are words too."""
        words: list[str] = []
        while self.peek().kind not in ("end", "sep", "op"):
            if words and words[-1].split()[-1:] in (["is"], ["are"], ["equals"]):
                break
            if words and words[-1].endswith(":"):
                break
            words.append(self.take().text.strip("() .,"))
        return ("text", " ".join(w for w in " ".join(words).casefold().split()))

    def set_expression(self) -> Node:
        """Unions, intersections and differences, left to right."""
        node = self.ratio()
        kinds = {"\\cup": "union", "\\bigcup": "union", "\\cap": "inter", "\\setminus": "minus",
                 "\\backslash": "minus"}  # fmt: skip
        while (kind := kinds.get(self.peek().text)) and self.peek().kind == "cmd":
            self.at += 1
            right = self.ratio()
            parts = node[1] if node[0] == kind == "union" else (node,)
            node = (kind, (*parts, right))
        return node

    def ratio(self) -> Node:
        """a : b : c."""
        parts = [self.sum()]
        while self.peek().text == ":" and not self._in_builder:
            self.at += 1
            parts.append(self.sum())
        node = parts[0] if len(parts) == 1 else ("ratio", tuple(parts))
        return self.trailing_unit(node)

    _in_builder = False

    def trailing_unit(self, node: Node) -> Node:
        """A unit, a percent sign or a remark after a value; `per` or `/` may stand before it."""
        names: list[str] = []
        while self.peek().kind in ("unit", "text") or self.before_unit(inside=bool(names)):
            word = self.take()
            if word.kind in ("unit", "text"):
                names.append(word.text)
            elif word.text == "/":
                names.append("/")
            while names and self.accept("^"):
                power = self.exponent()
                value = power[1] if power[0] == "neg" else power
                if value[0] != "num":
                    raise Unparsable("a unit to a power that is not a number")
                names[-1] += f"^{'-' if power[0] == 'neg' else ''}{value[1]}"
        return ("unit", node, " ".join(" ".join(names).split())) if names else node

    def before_unit(self, *, inside: bool = False) -> bool:
        """True at an operator that joins a value or a unit to a unit: `60 / hour`, `5 * km`."""
        if self.peek().text not in ("/", "*", "\\cdot", "\\times"):
            return False
        unit = self.tokens[self.at + 1]
        known = inside or bool(unit_key(unit.text))
        return unit.kind == "unit" or (unit.kind == "text" and known)

    def sum(self) -> Node:
        """Terms joined by +, -, ±, ∓."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise OverBudget(f"nested deeper than {MAX_DEPTH}")
        signs = {"+": None, "-": "neg", "\\pm": "pm", "\\mp": "mp"}
        terms: list[Node] = []
        while True:
            sign: str | None = None
            seen = False
            while self.peek().text in signs and self.peek().kind in ("op", "cmd"):
                new = signs[self.take().text]
                sign = new if sign is None else (None if sign == new == "neg" else sign or new)
                seen = True
            if terms and not seen:
                break
            if seen and self.peek().kind == "dots":
                break
            term = self.product()
            terms.append(term if sign is None else _negated(sign, term))
        self.depth -= 1
        terms = without_braces(terms)
        node = terms[0] if len(terms) == 1 else ("add", tuple(terms))
        if self.accept("\\over"):
            return ("div", node, self.sum())
        return ("call", "binom", (node, self.sum())) if self.accept("\\choose") else node

    def product(self) -> Node:
        """Factors joined by *, /, mod or nothing."""
        node = self.factor()
        while True:
            token = self.peek()
            if self.before_unit():
                return node
            if self.accept("*", "\\cdot", "\\times", "\\ast"):
                node = _times(node, self.signed_factor())
            elif self.accept("/", "\\div"):
                node = ("div", node, self.signed_factor())
            elif token.text in ("\\mod", "\\bmod", "mod") and token.kind in ("cmd", "fn"):
                self.at += 1
                node = ("call", "mod", (node, self.signed_factor()))
            elif self.starts_factor(token):
                node = self.juxtaposed(node, token)
            else:
                return node

    def juxtaposed(self, node: Node, token: Token) -> Node:
        """A product without a sign, or a mixed number."""
        mixed = node[0] == "num" and not node[2] and node[1].denominator == 1
        last = node[1][-1] if node[0] == "mul" else node
        if token.kind == "num" and last[0] == "num" and self.tokens[self.at - 1].text != ")":
            if not mixed or not token.spaced:
                raise Unparsable("two numbers side by side")
            numerator = self.factor()
            if numerator[0] != "num" or not self.accept("/"):
                raise Unparsable("two numbers side by side")
            return _mixed(node, numerator, self.factor())
        right = self.factor()
        if mixed and token.text == "\\frac" and right[0] == "div":
            top, bottom = right[1], right[2]
            if top[0] == bottom[0] == "num" and 0 <= top[1] < bottom[1]:
                return _mixed(node, top, bottom)
        return _times(node, right)

    def starts_factor(self, token: Token) -> bool:
        """True when a product may go on with this token."""
        if token.kind in ("num", "name", "fn"):
            return True
        if token.text == "|":
            return self.bars == 0
        if token.kind == "cmd":
            return token.text in _STARTS or token.text in CONSTANTS or token.text[1:] in GREEK
        return token.text in ("(", "[", "{")

    def signed_factor(self) -> Node:
        """A factor that may carry a sign, as in 2 * -3."""
        if self.accept("-"):
            return ("neg", self.signed_factor())
        self.accept("+")
        return self.factor()

    def factor(self) -> Node:
        """An atom with its postfixes and its power."""
        token = self.peek()
        node = self.function() if token.kind == "fn" else self.atom()
        while True:
            if self.accept("!"):
                node = ("call", "factorial", (node,))
            elif self.accept("\\degree"):
                node = ("deg", node)
            elif self.peek().kind == "percent":
                self.at += 1
                node = ("pct", node)
            elif self.accept("^", "**"):
                node = ("pow", grouped(node), self.exponent())
            else:
                return node

    def exponent(self) -> Node:
        """The right side of ^; towers associate to the right."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise OverBudget(f"nested deeper than {MAX_DEPTH}")
        node = ("neg", self.exponent()) if self.accept("-") else self.atom()
        if self.accept("^", "**"):
            node = ("pow", node, self.exponent())
        self.depth -= 1
        return node

    def function(self) -> Node:
        """A named function, its power and its argument."""
        name = self.take().text
        power = base = None
        while True:
            if name != "sqrt" and self.accept("_"):
                base = self.atom()
            elif self.accept("^"):
                power = self.exponent()
            else:
                break
        if name == "sqrt":
            return self.root()
        if name == "binom":
            return ("call", "binom", (self.argument(), self.argument()))
        args = self.arguments(name)
        if base is not None:
            args = (*args, base)
        if power in (("num", Fraction(-1), False), ("neg", ("num", Fraction(1), False))):
            return ("call", "arc" + name, args)
        node = ("call", name, args)
        return node if power is None else ("pow", node, power)

    def arguments(self, name: str) -> tuple[Node, ...]:
        """A bracketed list, or the product that follows."""
        if self.peek().text in ("(", "[", "{", "\\{"):
            inside = self.bracket()
            if inside[0] in ("tuple", "set", "list"):
                return tuple(inside[-1])
            return (inside,)
        if not self.starts_factor(self.peek()):
            raise Unparsable(f"{name} without an argument")
        node = self.factor()
        while self.starts_factor(self.peek()) and self.peek().kind in ("num", "name", "cmd"):
            node = _times(node, self.factor())
        return (node,)

    def root(self) -> Node:
        r"""What follows \sqrt: an optional index, then one argument."""
        index: Node = ("num", Fraction(2), False)
        if self.accept("["):
            index = self.sum()
            self.expect("]")
        return ("call", "root", (self.atom(), index))

    def argument(self) -> Node:
        r"""One argument of \frac or \binom: a group, or one digit or letter as in TeX."""
        token = self.peek()
        if token.kind == "num" and len(token.text) > 1:
            if not token.text.isdigit():
                raise Unparsable(r"a decimal without braces after \frac")
            self.tokens[self.at] = Token("num", token.text[1:])
            return ("num", Fraction(int(token.text[0])), False)
        return self.atom()

    def atom(self) -> Node:
        """A literal, symbol, bracket or command."""
        return parse_atom(self)

    def bracket(self) -> Node:
        """(..), [..], {..}, escaped braces, angle brackets, and half-open intervals."""
        opening = self.take().text
        closing = _CLOSES[opening]
        if self.accept(*closing):
            return ("set", ()) if opening == "\\{" else ("tuple", opening, closing[0], ())
        bars, self.bars = self.bars, 0
        inside = self.builder() if opening == "\\{" else self.statements()
        end = self.expect(*closing)
        self.bars = bars
        items = inside[1] if inside[0] == "list" else (inside,)
        if opening == "\\{" or (opening == "{" and len(items) > 1):
            return inside if inside[0] == "builder" else ("set", tuple(items))
        if len(items) == 1 and (opening == "{" or (opening + end) in ("()", "[]")):
            return inside
        fence = "()" if opening == "\\langle" else opening + end
        return ("tuple", fence[0], fence[1], tuple(items))

    def builder(self) -> Node:
        """{x | condition} or a plain list."""
        self.bars, self._in_builder = 1, True
        inside = self.statements()
        self._in_builder = False
        if not self.accept("|", ":"):
            return inside
        condition = self.statements()
        return ("builder", inside, condition)


def _negated(sign: str, node: Node) -> Node:
    # -1 1/2 is -(1 + 1/2): the mixed number is already one node here
    if sign == "neg" and node[0] == "num":
        return ("num", -node[1], node[2])
    return (sign, node)


def _times(left: Node, right: Node) -> Node:
    left, right = grouped(left), grouped(right)
    return ("mul", (*left[1], right)) if left[0] == "mul" else ("mul", (left, right))


def _mixed(whole: Node, top: Node, bottom: Node) -> Node:
    if bottom[0] != "num" or top[2] or bottom[2] or not 0 <= top[1] < bottom[1]:
        raise Unparsable("a mixed number whose fraction is not below 1")
    return ("num", whole[1] + top[1] / bottom[1], False)


def parse(text: str) -> Node:
    """The node of a normalized answer. Raises Unparsable or OverBudget."""
    if not text:
        raise Unparsable("empty")
    return Parser(text).answer()
