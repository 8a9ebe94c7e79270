"""Unicode and LaTeX spelling variants brought to one form, by table and linear regex only."""

import re
import unicodedata

from rlnorm.rewards.math.layout import (
    single_backslashes,
    without_end_marks,
    without_layout,
    without_spaces,
)
from rlnorm.rewards.math.units import UNIT_WORDS, is_unit_letter, unit_fractions
from rlnorm.rewards.math.vocabulary import CURRENCIES

_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ⁽⁾ˣʸᵏᵐᵗᵀ", "0123456789-+n()xykmtT")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ⁽⁾ˣʸᵏᵐᵗᵀ]+")
_SUBSCRIPT = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙₖᵢⱼₓₐₘ", "0123456789+-nkijxam")
_SUBSCRIPTS = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙₖᵢⱼₓₐₘ]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "➖": "-",
    "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "∗": "*",
    "•": r"\cdot ", "√": r"\sqrt ", "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ", "∞": r"\infty ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "≡": r"\equiv ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∉": r"\notin ", "⊂": r"\subset ", "⊆": r"\subseteq ", "∖": r"\setminus ", "⧵": r"\setminus ",
    "∅": r"\emptyset ", "°": r"^\circ ", "…": r"\ldots ", "⋯": r"\ldots ", "⟨": r"\langle ",
    "⟩": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}", "∧": r"\text{ and }", "∨": r"\text{ or }", "⁄": "/", "∕": "/", "′": "'",
    "″": "''", "∶": ":", "、": ",", "∣": "|", "∥": r"\parallel ", "⊥": r"\perp ",
    "∠": r"\angle ", "△": r"\triangle ", "→": r"\to ", "⇒": r"\Rightarrow ", "∴": r"\therefore ",
    "〈": r"\langle ", "〉": r"\rangle ", "㎡": r"\text{m}^2 ", "㎥": r"\text{m}^3 ",
    "㎠": r"\text{cm}^2 ", "㎤": r"\text{cm}^3 ", "㎢": r"\text{km}^2 ",
}  # fmt: skip
_TRANSLATE = str.maketrans(_SYMBOLS)
_GREEK_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega phi theta epsilon mu"
)
_GREEK = dict(zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΣΦΨΩϕϑϵµ", _GREEK_NAMES.split(), strict=True))
_GREEK_RUN = re.compile("[\u00b5\u0370-\u03ff\u1f00-\u1fff]+")
_MONEY = {
    "€": "euro",
    "£": "sterling",
    "¥": "yen",
    "¢": "cent",
    "₹": "rupee",
    "₽": "ruble",
    "₩": "won",
}
_MONEY_SIGN = re.compile(r"[\u20a0-\u20cf£¥฿¢]")
_MICRO = re.compile(
    r"(?<=\d)\s*[µμ](?=[mgsLlAVFW](?![A-Za-z]))([A-Za-z])|(?<=\d)\s*([kM]?)[Ω\u2126]$"
)


_MICRO_UNITS = {
    "m": "micrometer", "g": "microgram", "s": "microsecond", "l": "microliter", "L": "microliter",
    "A": "microampere", "V": "microvolt", "F": "microfarad", "W": "microwatt",
}  # fmt: skip
_UPRIGHT = r"\\(?:text|textrm|mathrm)\s*\{\s*"
_MICRO_LATEX = re.compile(
    rf"(?<=\d)(?:\s|\\[,;: ]|~|{{}})*(?:\\mu\s*(?:\{{\s*\}}\s*)?{_UPRIGHT}(?P<a>[mgsLlAVFW])\s*\}}"
    rf"|{_UPRIGHT}\\mu\s*(?:\{{\s*\}}\s*)?(?P<b>[mgsLlAVFW])\s*\}})"
)


def _micro(match: re.Match[str]) -> str:
    return rf" \text{{{_MICRO_UNITS[match[1]]}}}" if match[1] else r" \text{ohm}"


def _micro_latex(match: re.Match[str]) -> str:
    return rf" \text{{{_MICRO_UNITS[match['a'] or match['b']]}}}"


def _greek(match: re.Match[str]) -> str:
    """Symbols letter by letter; a word with an accent or a final sigma stays a word."""
    letters = match.group()
    if any(letter not in _GREEK for letter in letters):
        return letters
    return "".join(f"\\{_GREEK[letter]} " for letter in letters)


def _money(match: re.Match[str]) -> str:
    sign = match.group()
    before = match.string[max(0, match.start() - 6) : match.start()].rstrip(" ~\\,;:!")[-1:]
    after = match.string[match.end() : match.end() + 1]
    if sign in _MONEY and before == "{" and not after.isdigit():
        return _MONEY[sign]
    return rf" \text{{{_MONEY[sign]}}}" if before.isdigit() and sign in _MONEY else ""


_PRICE = re.compile(
    r"(?P<sign>\\?\$|[€£¥₹₽₩])\s*(?P<value>\d[\d,.]*)\s*/\s*(?P<unit>[A-Za-z]+)"
    r"(?P<power>\^\{?[23]\}?)?\s*\.?"
)


def _price(text: str) -> str:
    """`$0.35/kWh` as 0.35 and its unit; a price per variable stays a quotient."""
    match = _PRICE.fullmatch(text.strip())
    if match is None or not (is_unit_letter(match["unit"]) or match["unit"] in UNIT_WORDS):
        return text
    money = _MONEY.get(match["sign"], "dollar")
    return rf"{match['value']} \text{{{money}}}/\text{{{match['unit']}}}{match['power'] or ''}"


def _vulgar(match: re.Match[str]) -> str:
    return " " + unicodedata.normalize("NFKC", match.group()).replace("⁄", "/")


def _visible(char: str) -> str:
    if char in "\n\t\r":
        return " "
    category = unicodedata.category(char)
    return {"Cs": "\ufffd", "Cf": "", "Cc": "", "Zs": " "}.get(category, char)


_EATEN = re.compile(
    r"[\f\x08\a\v](?=[a-z]{2})|\t(?=ext|imes|heta|an\b|frac|au\b|riangle)|\r(?=ight|ho\b|angle|floor)"
    r"|\n(?=eq\b|abla\b|otin\b)"
)
_ESCAPES = {
    "\f": "\\f",
    "\b": "\\b",
    "\a": "\\a",
    "\v": "\\v",
    "\t": "\\t",
    "\r": "\\r",
    "\n": "\\n",
}


def restored_escapes(text: str) -> str:
    """`\\frac` whose `\\f` a string literal turned into a form feed, and the like."""
    if text.isprintable():
        return text
    return _EATEN.sub(lambda match: _ESCAPES[match.group()], text)


def clean_unicode(text: str) -> str:
    """NFKC with powers and fractions kept; invisible characters dropped, surrogates replaced."""
    text = restored_escapes(text)
    if text.isascii():
        return text if text.isprintable() else "".join(map(_visible, text))
    text = "".join(map(_visible, text))
    text = _SUPERSCRIPTS.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPT) + "}", text)
    text = _SUBSCRIPTS.sub(lambda m: "_{" + m.group().translate(_SUBSCRIPT) + "}", text)
    text = _MICRO.sub(_micro, text)
    text = _VULGAR.sub(_vulgar, _MONEY_SIGN.sub(_money, text)).translate(_TRANSLATE)
    text = unicodedata.normalize("NFKC", _GREEK_RUN.sub(_greek, text))
    return _GREEK_RUN.sub(_greek, text).translate(_TRANSLATE)


_BRACED_SIGN = re.compile(
    r"(?P<owner>\\[A-Za-z]+\s*|[\^_}\]]\s*)?\{\s*(?P<sign>\\(?:cdot|times)(?![A-Za-z])|[-+*/=<>:])\s*\}"
)
_EMPTY_GROUP = re.compile(r"(?<![\^_}\]A-Za-z])\{\s*\}")
_FRENCH = re.compile(r"([\[\](])([^\[\]()]*)([\[\])])")
_FRACS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_DELIMITERS = {
    r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]",
    r"\lgroup": "(", r"\rgroup": ")", r"\lparen": "(", r"\rparen": ")",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\mid": "|", r"\colon": ":",
    r"\lVert": r"\|", r"\rVert": r"\|", r"\Vert": r"\|", r"\lbracket": "[", r"\rbracket": "]",
    r"\smallsetminus": r"\setminus",
}  # fmt: skip
_DELIMITER = re.compile("|".join(re.escape(d) + "(?![A-Za-z])" for d in _DELIMITERS))
_DEGREES = re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\\degree(?![A-Za-z])")
_SCALE_OF_HEAT = re.compile(r"\\degree\s*(?:\\(?:text|mathrm|rm)\s*\{\s*)?([CF])\b\s*\}?")
_HEAT = {"C": r"\text{ degrees celsius}", "F": r"\text{ degrees fahrenheit}"}
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar|dot)\s*\{(\d{1,20})\}")
_TIMES_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)")
_ABBREVIATION = re.compile(
    r"(?<=\d sq)\.(?=\s)|(?<=millones)\s+de(?=\s)|(?<=millions)\s+(?:de|of)(?=\s)"
)
_AND = re.compile(
    r"(?<=\d) [yo] (?=\d)|(?<=[\d)}]) (?:et|ou|ve|veya|atau|dan|och|og|en) (?=[-\d\\(]|\w\s*=)"
)
"""Between two values, `y` and its like are words: `2 y 3`."""
_OF = re.compile(r"(?<=[a-z]{2} )d['’][^\W\d_]{2,}")
_HALF_DAY = re.compile(r"(?<=\d)\s*([ap])\.?m\b\.?", re.I)
_CURRENCY = re.compile(
    r"\s*(?:\\(?:text|mathrm)\s*\{\s*)?"
    rf"(?:(?:US|AU|CA|HK|NT|NZ|[ACRS])\\?\$|(?:Rs|Rp|RM|Tk|{CURRENCIES.replace(' ', '|')})\b\.?)"
    r"[\s}]*(?=\d)"
)
_ALIGNED = re.compile(r"\\(?:begin|end)\s*\{(?:aligned|align\*?|gathered|split)\}")
_BARE_DIFFERENCE = re.compile(r"(\\mathbb\s*\{[RQZNC]\})\s*\\\s*\{([^{}\\]*)(?:\}|$)")
_SET_LETTER = re.compile(
    r"\\(?:Bbb|mathds|mathbbm|mathbb|mathcal)\s*(?:\{\s*([A-Z])\s*\}|([A-Z])(?![A-Za-z]))|\\([RZQN])(?![A-Za-z])"
)
_ANGLED = re.compile(r"<([^<>=]+,[^<>=]+)>")
_TO = re.compile(r"(?<=\d)(?:\s+to\s+|\s*\\text\s*\{\s*to\s*\}\s*)(?=\d)")
_MARKUP = ("**", "__", "`")
_GROUPED = re.compile(
    r"(?<![\d.,_^])\d{1,3}(?:(?:,|\s*\{\s*,\s*\}\s*(?:\\!\s*)?|,\\!\s*|\\[,!;: ]"
    r"|[~ \u00a0])\d{3})+(?!\d)"
)
_BRACKETS = re.compile(r"\\[{}]|[()\[\]]")
_DOLLARS_AFTER = re.compile(r"(?<=\d)(?:\s|\\[,;: ]|~)*\\\$(?!\s*\d)")
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
    if "\\$" in text:
        text = _DOLLARS_AFTER.sub(r" \\text{dollar}", text).replace("\\$", "")
    text = text.replace("$", " ")
    return re.sub(r"(?<!\\)\\[()\[\]]", " ", text)


def normalize(answer: str, *, thousands: bool = True) -> str:
    """The spelling that the tokenizer reads; only layout and currency signs are lost."""
    if "/" in answer:
        answer = _price(answer)
    text = single_backslashes(clean_unicode(answer))
    if text[:1].isalpha() or text[:1] == "\\":
        text = _CURRENCY.sub("", text, count=1) if _CURRENCY.match(text) else text
    text = _strip_markup(strip_dollars(text))
    if "\\" in text:
        text = _plain_latex(text)
    if "sq. " in text or "mill" in text:
        text = _ABBREVIATION.sub("", text)
    if "10" in text:
        text = _TIMES_TEN.sub(r"\\times ", text)
    if " " in text:
        text = _AND.sub(" , ", text)
    if "'" in text or "’" in text:
        text = text if "\\" in text else _OF.sub(r"\\text{\g<0>}", text)
    text = _HALF_DAY.sub(lambda m: f" {m[1].lower()}m", text)
    if thousands:
        text = join_thousands(text)
    if "{" in text:
        text = _EMPTY_GROUP.sub(" ", text.replace("{,}", ","))
        text = _BRACED_SIGN.sub(lambda m: m.group() if m["owner"] else m["sign"], text)
    if "\\" in text or "~" in text:
        text = without_spaces(text.replace("\\!", ""))
    if " to" in text or "{to" in text:
        text = _TO.sub(":", text)
    if text[:1] == "<" and (angled := _ANGLED.fullmatch(text.strip())):
        text = f"\\langle {angled[1]}\\rangle"
    if "[" in text or "]" in text:
        text = _FRENCH.sub(_french_interval, text)
    return _strip_end(text)


def _plain_latex(text: str) -> str:
    text = _SET_LETTER.sub(_set_letter, _one_line(text.replace("\\n ", " ").removesuffix("\\n")))
    text = _BARE_DIFFERENCE.sub(r"\1\\setminus {\2}", text)
    if "\\mu" in text:
        text = _MICRO_LATEX.sub(_micro_latex, text)
    text = text.replace("\\!", "\\! ").replace(",\\! ", ",\\!")
    text = _DELIMITER.sub(lambda m: _DELIMITERS[m.group()], without_layout(text))
    text = _REPEATING.sub(_repeating, text)
    text = _FRACS.sub(r"\\frac", text)
    text = _DEGREES.sub(r"\\degree ", text).replace("\\%", "%")
    if "\\degree" in text:
        text = _SCALE_OF_HEAT.sub(lambda m: _HEAT[m[1]], text)
    return unit_fractions(text) if "\\frac" in text else text


def _set_letter(match: re.Match[str]) -> str:
    style = "mathcal" if match.group().startswith("\\mathcal") else "mathbb"
    return f"\\{style}{{{match[1] or match[2] or match[3]}}}"


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


def _french_interval(match: re.Match[str]) -> str:
    """`]0,1[` as (0,1)."""
    low, *high = re.split("[,;]", match[2])
    if len(high) != 1 or not low.strip() or not high[0].strip():
        return match.group()
    return f"{'(['[match[1] == '[']}{match[2]}{')]'[match[3] == ']']}"


def _strip_markup(text: str) -> str:
    """Without Markdown emphasis around the complete text; `9**9` in the middle stays a power."""
    text = text.strip()
    if len(text) > 2 and text[0] == text[-1] in ("*", "_") and text[1] != text[0] != text[-2]:
        text = text[1:-1].strip()
    while text.startswith(_MARKUP) or text.endswith(_MARKUP):
        for mark in _MARKUP:
            text = text.removeprefix(mark).removesuffix(mark).strip()
    return text


def _strip_end(text: str) -> str:
    """Without closing punctuation; 5! keeps its factorial, 3. is 3 either way."""
    kept = without_end_marks(text).rstrip(" .,;:")
    while kept.endswith("\\\\"):
        kept = kept[:-2].rstrip(" .,;:")
    return kept.removesuffix("\\").strip()
