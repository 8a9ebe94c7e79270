r"""LaTeX layout taken off an answer: doubled backslashes, style commands, spacing, end marks.

A style command is replaced by its content where that is a formula (`\mathbf{x=5}` is x=5), and by
`\text{...}` where it is words. One pass over the text, however deep the groups nest.
"""

import re

from rlnorm.rewards.math.budget import words
from rlnorm.rewards.math.tokens import FUNCTIONS, GREEK
from rlnorm.rewards.math.units import is_unit_letter

_STYLES = (
    "text|mbox|hbox|textbf|textit|textrm|texttt|textsf|textnormal|textsc|textsl|textup|textmd|emph"
    "|mathrm|mathbf|mathit|mathsf|mathtt|mathnormal|boldsymbol|bm|pmb|symbf|symrm|symit|underline"
    "|uline|underbar|fbox|framebox|makebox|boxed|ensuremath|smash|mathrel|mathbin|mathop|mathord"
    "|mathopen|mathclose|mathpunct|mathinner|vcenter|bbox|underbrace|overbrace"
)
_GONE = "phantom|hphantom|vphantom|hspace|vspace|mspace|tag|label|color|cellcolor"
_SECOND = "textcolor|colorbox|raisebox|href|class|style|cssId|parbox|fcolorbox\\s*\\{[^{}]*\\}"
_BEGIN = r"(?![A-Za-z])\*?\s*(?:\[[^\[\]{}]*\]\s*)?"
_GROUP = re.compile(
    rf"\\(?:(?P<style>{_STYLES}){_BEGIN}\{{|(?P<gone>{_GONE}){_BEGIN}\{{"
    rf"|(?P<second>{_SECOND}){_BEGIN}\{{[^{{}}]*\}}\s*\{{|.)|[{{}}]",
    re.DOTALL,
)
_SI = re.compile(
    r"\\(?:(?:SI|qty)\s*\{(?P<value>[^{}]*)\}\s*|(?:si|unit)\s*)\{(?P<unit>[^{}]*)\}"
    r"|\\num\s*\{(?P<number>[^{}]*)\}"
)
_HAS_GROUP = re.compile(rf"\\(?:{_STYLES}|{_GONE}|{_SECOND})(?![A-Za-z])")
_BRACE_LABEL = re.compile(r"\s*[_^]\s*\{")
_FONTS = "rm|bf|it|sf|tt|em|bfseries|itshape|rmfamily|upshape|mdseries"
_SWITCH = re.compile(rf"\{{\s*\\(?:{_FONTS})(?![A-Za-z])\s*([^{{}}\\]*)\}}")
_SWITCH_TO_END = re.compile(rf"\\(?:{_FONTS})(?![A-Za-z])\s*([A-Za-z ]+)$")
_RM_GROUP = re.compile(r"\\rm\s*\{|\{\s*\\rm(?![A-Za-z])")
_BARE = re.compile(r"\\(?:math(?:rm|bf|it|sf)|text(?:bf|it|rm)?|boldsymbol|bm|pmb)\s+(\w)(?!\w)")
_IGNORED = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|scriptscriptstyle|limits|nolimits|boldsymbol|bm"
    rf"|{_FONTS}|underline|tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge"
    r"|boldmath|centering|noindent|nonumber|notag|strut|mathstrut|null|relax|allowbreak|nobreak"
    r"|hfill?|hline|newline|linebreak|par|[cv]?skip)(?![A-Za-z])"
    r"|\\(?:[hv]skip|m?kern|mskip)\s*-?[\d.]+\s*(?:em|ex|pt|mu|cm|mm|in)(?![A-Za-z])"
    r"|(?<=\\\\)\[\s*-?[\d.]+\s*(?:em|ex|pt|mu|cm|mm|in)\s*\]"
)
_SIZED = re.compile(
    r"\\(?:left|right|mleft|mright|middle|[bB]igg?[lrm]?)(?![A-Za-z])(?:\s*\.(?!\d))?"
)
_ANGLES = re.compile(r"\\(?:m?left|[bB]igg?l?)\s*<|\\(?:m?right|[bB]igg?r?)\s*>")
_SPACES = re.compile(
    r"(?P<row>\\\\)|\\q?quad|\\(?:enspace|enskip|thinspace|medspace|thickspace|space|nobreakspace"
    r"|neg(?:thin|med|thick)space)(?![A-Za-z])|\\[,;:> ]|~"
)
_MARKS = (
    r"(?:\s|\\(?:checkmark|qed|qedhere|blacksquare|square|Box|hfill)(?![A-Za-z])|[✓✔✅☑∎□■▪◻◼]"
    r"|\ufe0f)++"
)
_END_MARKS = re.compile(rf"^{_MARKS}|(?<![\s✓✔✅☑∎□■▪◻◼]){_MARKS}$")
_RUN = re.compile(r"\\{2,}")
_DOUBLED = re.compile(r"(?<!\\)\\{2,}+(?=[A-Za-z]{2}|[{}%$,;:!()\[\]|&_#])")
_SINGLE = re.compile(r"(?<!\\)\\(?!\\)")
_LOOSE_ROW = re.compile(r"(?:(?<!\s)\s++)?\\\\\s*+")


def single_backslashes(text: str) -> str:
    r"""`\\frac` as `\frac`. Inside an environment `\\` ends a row, unless all are doubled."""
    if "\\\\" not in text:
        return text
    if "\\begin" not in text:
        if _DOUBLED.search(text) and not _SINGLE.search(text):
            text = text.replace("\\\\ ", " ")
        text = _DOUBLED.sub(r"\\", text).strip()
        return _LOOSE_ROW.sub(" , ", text.removesuffix("\\\\").rstrip()).removesuffix(" , ")
    if "\\\\begin" not in text:
        return text
    if any(len(run) > 3 for run in _RUN.findall(text)):
        return _RUN.sub(lambda run: run.group()[: len(run.group()) // 2], text)
    return re.sub(r"\\\\(?=[A-Za-z]{2})", r"\\", text)


def without_layout(text: str) -> str:
    """The text with its styles unwrapped; what only spaces, sizes or decorates becomes a space."""
    text = _SIZED.sub("", _ANGLES.sub(_angle, text))
    text = _SI.sub(_si_unit, text)
    if "{\\" in text:
        text = _SWITCH.sub(r"\\text{\1}", text)
    text = _SWITCH_TO_END.sub(r"\\text{\1}", text)
    text = _RM_GROUP.sub(r"\\mathrm{", _BARE.sub(r"\1", text))
    if _HAS_GROUP.search(text):
        text = _unwrapped(text)
    return _IGNORED.sub(" ", text)


def _angle(match: re.Match[str]) -> str:
    return "\\langle " if match.group().endswith("<") else "\\rangle "


def _si_unit(match: re.Match[str]) -> str:
    """`\\SI{5}{\\meter\\per\\second}` as 5 and its unit in words."""
    if match["number"] is not None:
        return match["number"]
    unit = " ".join(match["unit"].replace("\\", " ").replace("~", " ").replace(".", " ").split())
    return f"{match['value'] or ''} \\text{{{unit}}}"


def without_spaces(text: str) -> str:
    r"""Every spacing command as a space; `\\` stays."""
    return _SPACES.sub(lambda m: m["row"] or " ", text)


def without_end_marks(text: str) -> str:
    """Without what closes a proof or affirms a result: a filled square, a check mark."""
    if text.isascii() and "\\" not in text:
        return text.strip()
    return _END_MARKS.sub("", text)


def _unwrapped(text: str) -> str:
    out: list[str] = []
    opened: list[tuple[str, int]] = []
    at = 0
    while (token := _GROUP.search(text, at)) is not None:
        out.append(text[at : token.start()])
        at = token.end()
        found = token.group()
        kind = token["style"] or token["gone"] or token["second"]
        if kind or found == "{":
            opened.append((kind or "", len(out)))
            if not kind:
                out.append("{")
        elif found == "}" and opened:
            kind, start = opened.pop()
            if not kind:
                out.append("}")
                continue
            body = "".join(out[start:])
            del out[start:]
            gone = kind == "label" or kind in _GONE.split("|")
            left = "".join(out[-2:])
            out.append(" " if gone else _styled(kind, body, left, text[at : at + 8]))
            label = _BRACE_LABEL.match(text, at) if kind.endswith("brace") else None
            if label:
                opened.append(("label", len(out)))
                at = label.end()
        else:
            out.append(found)
    return text if opened else "".join(out) + text[at:]


_COMMAND = re.compile(r"\\(?:[A-Za-z]+|[%$,;: !>])")
_SILENT = re.compile(r"\\[%$,;: !>]|\\q?quad(?![A-Za-z])")
_INNER_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_LETTERS = re.compile(r"[^\W\d_]+")
_SAYING = re.compile(r"^\s*(?:the\s+)?(?:final\s+)?answer(?:\s+is|:)\s*", re.I)
_ATOM = re.compile(r"\s*(?:\d+(?:\.\d+)?|[^\W\d_]|[-+*/=<>:,|!.()\[\]]|\\[A-Za-z]+)\s*")
_PART = r"\s*([A-Za-z]{1,5}(?:\s*\^\s*\{?\d\}?)?)\s*"
_UPRIGHT_FRACTION = re.compile(rf"\\frac\s*\{{{_PART}\}}\s*\{{{_PART}\}}")
_UPRIGHT = words("text mbox hbox textrm textnormal textup textsf mathrm mathsf symrm")
_OPEN_ENDS, _CLOSED_ENDS = tuple("{([,;=<>&$:"), tuple("})],;=<>&$.:")


def _upright_parts(match: re.Match[str]) -> str:
    r"""`\frac{m}{s^2}` with each letter set upright, which makes it a fraction of units."""
    parts = (re.sub("[A-Za-z]+", r"\\text{\g<0>}", part) for part in match.groups())
    return "\\frac{{{}}}{{{}}}".format(*parts)


def _is_formula(body: str) -> bool:
    """True for mathematics, False for words and units: `x=5` and `(1,2)`, not `m/s^2` or `5 cm`."""
    rest = _INNER_TEXT.sub(" ", _SILENT.sub(" ", body))
    if "\\" in rest or any(sign in rest for sign in "=<>+*"):
        return True
    runs = _LETTERS.findall(rest)
    if any(len(run) > 1 and run not in FUNCTIONS and run not in GREEK for run in runs):
        return False
    if runs and all(is_unit_letter(run) for run in runs):
        return False
    return len(rest) < len(body) or any(sign.isdigit() or sign in "^_{|" for sign in rest)


def _styled(kind: str, body: str, left: str, right: str) -> str:
    inner = body.strip()
    if kind in _UPRIGHT and "\\frac" in inner:
        inner = _UPRIGHT_FRACTION.sub(_upright_parts, inner)
        if (
            left[-1:] not in ("^", "_")
            and not left[-1:].isalpha()
            and inner.startswith("\\frac{\\text")
        ):
            return inner
    if inner and all(sign in "()[],;:+-=/|<>" for sign in inner):
        return inner
    symbol = len(inner) == 1 and kind not in _UPRIGHT
    if not symbol and not _is_formula(body):
        if kind in ("mathop", "operatorname", "mathrm") and inner in FUNCTIONS - {"min"}:
            return f"\\{inner} "
        return "\\text{" + _INNER_TEXT.sub(r"\1", body) + "}"
    inner = _SAYING.sub("", inner)
    left, right = left.rstrip()[-1:], right.lstrip()[:1]
    alone = (not left or left in _OPEN_ENDS) and (not right or right in _CLOSED_ENDS)
    fits = (
        left not in ("^", "_") and not right.isalnum() and (len(inner) == 1 or not left.isalpha())
    )
    if alone or (fits and _ATOM.fullmatch(inner)):
        # 2\mathbf{3} is not 23, nor is \sin\mathbf{x} the command \sinx
        return f" {inner}" if left.isalnum() else inner
    return f"{{{inner}}}"
