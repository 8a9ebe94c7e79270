"""Unicode and LaTeX spelling variants brought to one form, by table and linear regex only."""

import re
import unicodedata

_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_SUBSCRIPT = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPTS = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-",
    "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∗": "*",
    "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ",
    "λ": r"\lambda ", "μ": r"\mu ", "φ": r"\phi ", "ω": r"\omega ", "∞": r"\infty ",
    "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "±": r"\pm ",
    "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "°": r"^\circ ",
    "…": r"\ldots ", "⟨": r"\langle ", "⟩": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "⌈": r"\lceil ", "⌉": r"\rceil ", "ℝ": r"\mathbb{R}", "∧": r"\text{ and }",
    "∨": r"\text{ or }", "⁄": "/", "∕": "/", "′": "'", "€": "", "£": "", "¥": "",
}  # fmt: skip
_TRANSLATE = str.maketrans(_SYMBOLS)


def _vulgar(match: re.Match[str]) -> str:
    return " " + unicodedata.normalize("NFKC", match.group()).replace("⁄", "/")


def _visible(char: str) -> str:
    if char in "\n\t\r":
        return " "
    category = unicodedata.category(char)
    return {"Cs": "\ufffd", "Cf": "", "Cc": "", "Zs": " "}.get(category, char)


def clean_unicode(text: str) -> str:
    """NFKC with powers and fractions kept; invisible characters dropped, surrogates replaced."""
    if text.isascii():
        return text if text.isprintable() else "".join(map(_visible, text))
    text = "".join(map(_visible, text))
    text = _SUPERSCRIPTS.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPT) + "}", text)
    text = _SUBSCRIPTS.sub(lambda m: "_{" + m.group().translate(_SUBSCRIPT) + "}", text)
    text = _VULGAR.sub(_vulgar, text).translate(_TRANSLATE)
    return unicodedata.normalize("NFKC", text).translate(_TRANSLATE)


_SIZED = re.compile(r"\\(?:left|right|mleft|mright|[bB]igg?[lrm]?)(?![A-Za-z])(?:\s*\.(?!\d))?")
_DROPPED = re.compile(
    r"\\(?:(?:displaystyle|textstyle|scriptstyle|limits|nolimits|bf|rm|it|boldsymbol|bm|hskip"
    r"|underline|tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge)(?![A-Za-z])"
    r"|(?:hspace\*?|phantom|(?:text)?color)\s*\{[^{}]*\})"
)
_SPACES = re.compile(r"(?P<row>\\\\)|\\(?:q?quad|(?:enspace|thinspace)(?![A-Za-z])|[,;: ])|~")
_FRACS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_BARE_STYLE = re.compile(r"\\math(bb|rm|bf|cal)\s+([A-Za-z])(?![A-Za-z])")
_DELIMITERS = {
    r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]",
    r"\lgroup": "(", r"\rgroup": ")", r"\lparen": "(", r"\rparen": ")",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\mid": "|",
}  # fmt: skip
_DELIMITER = re.compile("|".join(re.escape(d) + "(?![A-Za-z])" for d in _DELIMITERS))
_DEGREES = re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])")
_SCALE_OF_HEAT = re.compile(r"\\degree\s*(?:\\(?:text|mathrm|rm)\s*\{\s*)?([CF])\b\s*\}?")
_HEAT = {"C": r"\text{ degrees celsius}", "F": r"\text{ degrees fahrenheit}"}
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)\s*\{(\d{1,20})\}")
_TIMES_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)")
_HALF_DAY = re.compile(r"(?<=\d)\s*([ap])\.?m\b\.?", re.I)
_CURRENCY = re.compile(r"\s*(?:\\(?:text|mathrm)\s*\{\s*)?(?:Rs|USD|EUR|GBP|INR)\b\.?[\s}]*(?=\d)")
_ALIGNED = re.compile(r"\\(?:begin|end)\s*\{(?:aligned|align\*?|gathered|split)\}")
_MARKUP = ("**", "__", "`")
_GROUPED = re.compile(
    r"(?<![\d.,_^])\d{1,3}(?:(?:,|\s*\{\s*,\s*\}\s*|,\\!\s*|\\[,!;: ]|[~ \u00a0])\d{3})+(?!\d)"
)
_BRACKETS = re.compile(r"\\[{}]|[()\[\]]")
_OPENERS = frozenset((r"\{", "(", "["))


def join_thousands(text: str) -> str:
    """`12,345`, `12\\,345`, `12{,}345` and `12 345` as 12345; commas inside brackets separate."""
    if not _GROUPED.search(text):
        return text
    depth, last, inside = 0, 0, []
    for bracket in _BRACKETS.finditer(text):
        inside.append((bracket.start(), depth))
        depth = max(0, depth + (1 if bracket.group() in _OPENERS else -1))
    inside.append((len(text), depth))
    is_set = text.lstrip().startswith("{")

    def joined(match: re.Match[str]) -> str:
        nonlocal last
        while inside[last][0] < match.start():
            last += 1
        found = match.group()
        plain_comma = "," in re.sub(r"\{\s*,\s*\}|,\\!", "", found)
        if plain_comma and (inside[last][1] > 0 or is_set):
            return found
        return re.sub(r"\D", "", found)

    return _GROUPED.sub(joined, text)


def strip_dollars(text: str) -> str:
    r"""Math delimiters and currency signs removed: `$`, `\$`, `\(`, `\)`, `\[`, `\]`."""
    text = text.replace("\\$", "").replace("$", " ")
    return re.sub(r"(?<!\\)\\[()\[\]]", " ", text)


def normalize(answer: str, *, thousands: bool = True) -> str:
    """The spelling that the tokenizer reads; only layout and currency signs are lost."""
    text = clean_unicode(answer)
    text = _strip_markup(strip_dollars(text))
    if currency := _CURRENCY.match(text):
        text = text[currency.end() :]
    if "\\" in text:
        text = _one_line(text)
        text = text.replace("\\!", "\\! ").replace(",\\! ", ",\\!")
        text = _SIZED.sub("", text)
        text = _DROPPED.sub(" ", text)
        text = _REPEATING.sub(_repeating, text)
        text = _FRACS.sub(r"\\frac", text)
        text = _BARE_STYLE.sub(r"\\math\1{\2}", text)
        text = _DELIMITER.sub(lambda m: _DELIMITERS[m.group()], text)
        text = _DEGREES.sub(r"\\degree ", text).replace("\\%", "%")
        if "\\degree" in text:
            text = _SCALE_OF_HEAT.sub(lambda m: _HEAT[m[1]], text)
    if "10" in text:
        text = _TIMES_TEN.sub(r"\\times ", text)
    text = _HALF_DAY.sub(lambda m: f" {m[1].lower()}m", text)
    if thousands:
        text = join_thousands(text)
    if "\\" in text:
        text = text.replace("{,}", ",").replace("\\!", "")
        text = _SPACES.sub(lambda m: m["row"] or " ", text)
    return _strip_end(text)


def _one_line(text: str) -> str:
    """An aligned block as a chain if its rows continue with `=`, else as a list of its rows."""
    inside, count = _ALIGNED.subn(" ", text) if "\\begin" in text else (text, 0)
    if not count or "\\begin" in inside:
        return text
    inside = re.sub(r"\\\\\s*+(?=&?\s*+=)", " ", inside)
    return inside.replace("\\\\", " , ").replace("&", " ")


def _repeating(match: re.Match[str]) -> str:
    whole, fixed, period = match.groups()
    top = int(whole + fixed + period) - int(whole + fixed or "0")
    return f"{{\\frac{{{top}}}{{{(10 ** len(period) - 1) * 10 ** len(fixed)}}}}}"


def _strip_markup(text: str) -> str:
    """Without Markdown emphasis around the complete text; `9**9` in the middle stays a power."""
    text = text.strip()
    while text.startswith(_MARKUP) or text.endswith(_MARKUP):
        for mark in _MARKUP:
            text = text.removeprefix(mark).removesuffix(mark).strip()
    return text


def _strip_end(text: str) -> str:
    """Without closing punctuation; 5! keeps its factorial, 3. is 3 either way."""
    kept = text.rstrip(" .,;:")
    while kept.endswith("\\\\"):
        kept = kept[:-2].rstrip(" .,;:")
    return kept.lstrip()
