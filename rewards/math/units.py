"""Words after a value: units and their synonyms, number words, and remarks that void an answer."""

import re

_SYNONYMS = (
    "mm millimeter millimeters millimetre millimetres; cm centimeter centimeters centimetre "
    "centimetres; dm; nm; m meter meters metre metres; km kilometer kilometers kilometre "
    "kilometres; in inch inches; ft foot feet; yd yard yards; mi mile miles; mg milligram "
    "milligrams; g gram grams; kg kilogram kilograms; lb lbs pound pounds; oz ounce ounces; ton "
    "tons; l liter liters litre litres; ml milliliter milliliters; gallon gallons; s sec secs "
    "second seconds; min mins minute minutes; h hr hrs hour hours; day days; week weeks; month "
    "months; year years; degree degrees deg; celsius; fahrenheit; radian radians rad; unit "
    "units; dollar dollars usd; cent cents; euro euros; rupee rupees; student students; way "
    "ways; time times; apple apples; point points; coin coins; am a.m; pm p.m; yuan; people; n; a; "
    "j; w; k; v; f"
)
_UNITS = {word: group.split()[0] for group in _SYNONYMS.split(";") for word in group.split()}
_UNITS |= {"mph": "mi h", "kmh": "km h"}
_POWERS = {"square": "^2", "sq": "^2", "cubic": "^3"}
UNIT_WORDS = frozenset(("mL", "USD", "per", *_POWERS, *(u for u in _UNITS if len(u) > 1)))
SCALES = {
    "dozen": "12", "hundred": "1e2", "thousand": "1e3", "million": "1e6", "billion": "1e9",
    "trillion": "1e12",
}  # fmt: skip
_VOID = re.compile(
    r"\d|\?|\b(?:or|not|none|wrong|never|cannot|maybe|unsure|guess|squared|cubed|factorial)\b|n't\b"
)


def unit_key(name: str) -> str:
    """One spelling of a unit, `per` and `/` left out; empty if a word of it is not a unit."""
    parts: list[str] = []
    power = ""
    for word in re.findall(r"[^\s/]+", name):
        stem, _, exponent = word.strip("().,").partition("^")
        exponent = exponent.strip("{-}")  # m s^{-1} is m/s, whose stroke is left out too
        exponent = "" if exponent == "1" else exponent
        if stem in _POWERS:
            power = _POWERS[stem]
        elif stem in _UNITS:
            parts.append(_UNITS[stem] + (f"^{exponent}" if exponent else power))
            power = ""
        elif stem != "per":
            return ""
    return " ".join(parts)


def is_void(remark: str) -> bool:
    """True when words after a value offer another, deny it or change it: `or 6`, `squared`."""
    return not unit_key(remark) and _VOID.search(remark) is not None
