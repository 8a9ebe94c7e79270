"""Words after a value: units and their synonyms, number words, and remarks that void an answer."""

import re

from rlnorm.rewards.math.vocabulary import (
    CURRENCIES,
    POWERS_AFTER,
    POWERS_BEFORE,
    SHORT_THINGS,
    UNITS,
    by_name,
)
from rlnorm.rewards.math.vocabulary import SCALES as SCALE_NAMES

_UNITS = (
    {code.lower(): code.lower() for code in CURRENCIES.split()}
    | by_name(UNITS)
    | {"mph": "mi / h", "kmh": "km / h", "kph": "km / h"}
)
_BEFORE = {name: int(power) for name, power in by_name(POWERS_BEFORE).items()}
_AFTER = {name: int(power) for name, power in by_name(POWERS_AFTER).items()}
_PREFIXED = re.compile(r"(平方|立方|quadrat|kubik)(?=.)")
UNIT_WORDS = frozenset(
    ("mL", "Rs", "Uhr", "Std", "Tag", "PM", "AM", "per", "square", "sq", "cubic",
     *CURRENCIES.split(), *(u for u in _UNITS if len(u) > 1 and u not in ("an", "rs", "ore")))
)  # fmt: skip
"""Written after a value without a style command, these are units; `12 m` is 12 times m."""
THINGS = frozenset(SHORT_THINGS.split())
"""Short words that are letters side by side unless a space sets them apart from the value."""
SCALES = {name: value for name, value in by_name(SCALE_NAMES).items() if name != value}
_SIGNS_OF_SCALE = "".join(w for w in SCALES if len(w) == 1)
_SCALED = re.compile(
    rf"(?!千[米克瓦焦卡帕赫伏]|兆[瓦赫帕欧焦字]|조각|만큼|百分)(?P<scale>[{_SIGNS_OF_SCALE}]+)(?P<rest>.*)",
    re.DOTALL,
)
_VOID = re.compile(
    r"\d|\?|n't\b|\b(?:or|not|none|wrong|never|cannot|maybe|unsure|guess|squared|cubed|factorial"
    r"|incorrect|false|at least|at most|gross|grand|plus|minus|divided|multiplied|over|below|power"
    r"|to the|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)(?!-)"
    r"|half(?!-)|halves|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|elevenths"
    r"|twelfths|\w+teenths|\w+tieths|hundredths|thousandths|millionths|billionths"
    r"|tercios|cuartos|quintos|sextos|octavos|décimos|tiers|quarts|\w+ièmes|drittel|viertel|fünftel"
    r"|\w*(?:hundert|tausend|zig|million)stel|centésim[ao]s|milésim[ao]s|décimas"
    r"|sechstel|achtel|zehntel|nicht|kein|oder|falsch|hoch|ou|pas|faux|puissance|au carré|au cube"
    r"|al cuadrado|al cubo|al quadrato|falso|quizás|não|или|не|нет|половин\w*)\b"
    r"|[不没沒非错錯误誤否或割万萬亿億]|以[上下内外]|超|未[满満]|^[多余]|[多余半成折乘乗]$|分[之の]|次方|方根"
    r"|[阶階]|的[平立]方|^(?:平方|立方)$|また|では|じゃ|ない|ません"
    r"|아[니닙닌냐]|또는|이상|이하|미만|초과|반$|제곱|तक|नहीं|ไม่|หรือ|ليس|(?:^|\s)(?:या|أو)(?:\s|$)"
)


def _units_in(name: str) -> list[str]:
    """The words of a unit and the strokes in it; a prefixed power is a word of its own."""
    return re.findall(r"[^\s/]+|/", _PREFIXED.sub(r"\1 ", name))


def _base(word: str) -> str:
    """One spelling of a unit; single letters keep their case, since K is a unit and k is not."""
    return _UNITS.get(word) or (_UNITS.get(word.casefold(), "") if len(word) > 1 else "")


def unit_key(name: str) -> str:
    """One spelling of a unit, such as `m s^-2`; empty if a word of it is not a unit."""
    powers: dict[str, int] = {}
    side, power, last = 1, 1, ""
    for word in _units_in(name):
        stem, _, exponent = word.strip("().,").partition("^")
        exponent = exponent.strip("{}") or "1"
        low = stem.casefold()
        if word == "/" or low == "per":
            side = -1
        elif low in _BEFORE:
            power = _BEFORE[low]
        elif low in _AFTER and last:
            powers[last] *= _AFTER[low]
        elif re.fullmatch(r"-?\d", exponent) and (base := _base(stem)):
            for part in base.split(" / "):
                powers[part] = powers.get(part, 0) + side * power * int(exponent)
                side, last = (-1 if " / " in base else side), part
            power = 1
        else:
            return ""
    return " ".join(n if p == 1 else f"{n}^{p}" for n, p in sorted(powers.items()))


def is_unit_letter(letter: str) -> bool:
    """True for a single letter that is a unit by itself: m, s, N, but neither k nor x."""
    return letter in _UNITS


def split_scale(word: str) -> tuple[tuple[str, ...], str]:
    """The factors that open a word after a value, and the rest of it: 万元 is 1e4 and 元."""
    if (factor := SCALES.get(word) or SCALES.get(word.casefold().rstrip("."))) is not None:
        return (factor,), ""
    found = _SCALED.match(word)
    if found is None:
        return (), word
    return tuple(SCALES[sign] for sign in found["scale"]), found["rest"]


def is_void(remark: str) -> bool:
    """True when words after a value offer another, deny it or change it: `or 6`, `squared`."""
    return not unit_key(remark) and _VOID.search(remark.casefold()) is not None


_SPACE = r"(?:\s|~|\\[,;: ])*+"
_ONE_UNIT = (
    rf"(?:\\text\s*\{{[^{{}}\d]*\}}|[A-Za-z]{{1,12}}+){_SPACE}(?:\^\s*\{{?\s*-?\d\s*\}}?\s*)?"
)
_SOME_UNITS = rf"{_ONE_UNIT}(?:(?:\\cdot|\\times|[*/])?{_SPACE}{_ONE_UNIT}){{0,4}}+"
_FRACTION = re.compile(
    rf"(?P<times>\\cdot|\\times|\*)?{_SPACE}(?P<open>\(\s*)?"
    rf"\\frac\s*\{{\s*(?P<top>{_SOME_UNITS})\}}\s*\{{\s*(?P<bottom>{_SOME_UNITS})\}}(?(open)\s*\))"
)
_RATE = re.compile(
    rf"\\frac\s*\{{\s*(?P<value>-?\d[\d.,]*){_SPACE}(?P<top>{_SOME_UNITS})\}}"
    rf"\s*\{{\s*(?:1{_SPACE})?(?P<bottom>{_SOME_UNITS})\}}"
)
_IN_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_WORD = re.compile(r"[^\W\d_]+(?:\^\s*\{?\s*-?\d)?|/")


def _is_unit_fraction(top: str, bottom: str) -> bool:
    """True for words set upright, and for italics with a unit of several letters among them."""
    italics = _LETTERS.findall(re.sub(r"\\[A-Za-z]+", " ", _IN_TEXT.sub(" ", f"{top} {bottom}")))
    upright = _LETTERS.findall(" ".join(_IN_TEXT.findall(f"{top} {bottom}")))
    letters = [word for word in (*italics, *upright) if len(word) == 1 and word.isascii()]
    if not all(map(is_unit_letter, letters)) or any(map(is_void, upright)):
        return False
    long = [word for word in italics if len(word) > 1]
    return (bool(long) or not italics) and all(word in UNIT_WORDS for word in long)


_LETTERS = re.compile(r"[^\W\d_]+")


def _key_of(part: str) -> str:
    words = _WORD.findall(_IN_TEXT.sub(r" \1 ", part).replace("\\cdot", " "))
    return unit_key(" ".join(words).replace("{", ""))


def _in_a_line(match: re.Match[str]) -> str:
    top, bottom = match["top"].strip(), match["bottom"].strip()
    before = match.string[: match.start()].rstrip()[-1:]
    follows = before.isdigit() or before in ("}", ")")
    if not follows or not _is_unit_fraction(top, bottom):
        return match.group()
    if match["times"] and not (_key_of(top) and _key_of(bottom)):
        return match.group()
    return f" {_upright(top)}/{_upright(bottom)}"


def _upright(part: str) -> str:
    return part if "\\text" in part else f"\\text{{{part}}}"


def _rate(match: re.Match[str]) -> str:
    top, bottom = match["top"].strip(), match["bottom"].strip()
    if not _is_unit_fraction(top, bottom):
        return match.group()
    return f"{match['value']} {_upright(top)}/{_upright(bottom)}"


def unit_fractions(text: str) -> str:
    r"""`60\frac{\text{km}}{\text{h}}` as `60 \text{km}/\text{h}`: variables stay a fraction."""
    return _FRACTION.sub(_in_a_line, _RATE.sub(_rate, text))
