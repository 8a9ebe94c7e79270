"""Layer 4: math-verify, in a worker process that the parent may kill. Never in the parent.

Only answers that passed the allow-list below get here: LaTeX that math-verify's grammar reads and
our own parser does not (sums, integrals, limits, derivatives). Nothing goes to parse_expr.
"""

import logging
import re
from typing import Any

from rlnorm.rewards.math.budget import words

MAX_CHARS = 400
_COMMANDS = words(
    r"\frac \sqrt \sum \prod \int \iint \oint \lim \to \infty \pi \sin \cos \tan \cot \sec \csc "
    r"\arcsin \arccos \arctan \sinh \cosh \tanh \ln \log \exp \cdot \times \div \partial \mathrm "
    r"\binom \le \ge \leq \geq \ne \neq \lt \gt \pm \mp \Re \Im \overline \begin \end \det \vec "
    r"\operatorname \text \infty \lfloor \rfloor \lceil \rceil \in \cup \cap \mid \differentialD "
    r"\limits \rightarrow \prime \hat \bar \nabla \langle \rangle \trace \rank \abs \norm \circ "
    r"\alpha \beta \gamma \delta \epsilon \theta \lambda \mu \phi \omega \rho \sigma \tau \xi \{ "
    r"\} \\ \| \, \degree"
)
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL)
_PLAIN = re.compile(r"[-+*/^_=<>!|%()\[\]{}:,;&'. A-Za-z0-9]*")
_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_WORDS_ALLOWED = words("matrix pmatrix bmatrix vmatrix cases array trace rank")
_TOWER = re.compile(r"\^\s*\{[^{}]*\^\s*\{?[^{}]*\^")
_LITERAL = re.compile(r"\d+")


def allowed(text: str) -> bool:
    """True for a short text of known commands without an obviously huge number or power tower."""
    if len(text) > MAX_CHARS or text.count("^") > 12 or _TOWER.search(text):
        return False
    if any(c not in _COMMANDS for c in _COMMAND.findall(text)):
        return False
    rest = _COMMAND.sub(" ", text)
    if not _PLAIN.fullmatch(rest) or not set(_WORDS.findall(rest)) <= _WORDS_ALLOWED:
        return False
    iterated = "\\sum" in text or "\\prod" in text or "^" in text or "!" in text
    longest = max((len(m) for m in _LITERAL.findall(text)), default=0)
    return longest <= (4 if iterated else 30)


class Symbolic:
    """(gold, answer) -> True when math-verify calls them equal and a finer check agrees."""

    def warm(self) -> None:
        """Import and build the parser before any deadline starts."""
        logging.getLogger("math_verify").setLevel(logging.CRITICAL)
        if not self(("\\frac{1}{2}", "\\int_0^1 x dx")):
            raise RuntimeError("math-verify does not work in this worker")

    def __call__(self, sample: tuple[str, str]) -> bool:
        """sample: gold and answer, both normalized and allowed(), by the name that workers pass."""
        from math_verify import LatexExtractionConfig, parse, verify

        config = [LatexExtractionConfig(boxed_match_priority=-1)]
        gold, answer = (
            parse(f"${text}$", config, fallback_mode="no_fallback", parsing_timeout=None)
            for text in sample
        )
        if not gold or not answer:
            return False
        if not verify(gold, answer, timeout_seconds=None):
            return False
        return _finely_equal(gold[0], answer[0])


def _finely_equal(gold: Any, answer: Any) -> bool:
    """math-verify rounds at six places; constants must agree exactly, or to 25 digits."""
    import sympy

    both = (gold, answer)
    if not all(isinstance(x, sympy.Expr) and not x.free_symbols for x in both):
        return True
    known = [x.doit() for x in both]
    if all(x.is_Rational for x in known):
        return bool(known[0] == known[1])
    a, b = (sympy.N(x, 30) for x in known)
    if not (a.is_number and b.is_number):
        return True
    rounded = any(x.has(sympy.Float) for x in both)
    return bool(abs(a - b) <= max(abs(a), abs(b)) * sympy.Float("1e-9" if rounded else "1e-25", 30))
