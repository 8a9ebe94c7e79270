r"""Boxes of one sentence, which are one answer: `\boxed{1} or else x = \boxed{-2}`."""

import re

from rlnorm.rewards.math.budget import words
from rlnorm.rewards.text import Box

_MAX_GAP = 120
_SENTENCE_END = re.compile(r"[.!?]\s|[.!?]$|[。！？]|\n\s*\n|\.\.\.|…")
_MARKUP = re.compile(r"\\(?:text|textbf|mathrm|mbox)\s*\{|\\[A-Za-z]+|\\.|[{}$*~]|__")
_LABEL = re.compile(
    r"(?:\([a-z\d]{1,2}\)|(?<!\w)[^\W\d_](?:\s*_\s*\w{1,3}|\d)?)\s*(?:=|:|∈|(?<=\)))\s*|\s+"
)
_JOINERS = words(
    "and or & et ou y o e und oder ve veya и или 和 或 或者 以及 及 与 と または および 또는 와 과"
)
_JOINING_PHRASE = re.compile(
    r"\b(?:as well as|along with|together with|sowie|ainsi que|así como|assim como|а также)\b", re.I
)
_NEW_CLAIM = words(
    "no nope not wait actually sorry rather instead correction correct correctly corrected mistake "
    "error wrong incorrect oops hmm but however so thus therefore hence then thereby consequently "
    "simplify simplifies simplified simplifying which gives give giving becomes yields means final "
    "finally answer because since let check checking recheck again should must precise result "
    "total adding subtracting multiplying dividing gets get obtain obtains "
    "nein nicht aber doch sondern daher falsch pero entonces mais non donc alors mas então "
    "нет не но значит поэтому 不 不对 不是 但 但是 所以 因此 应该 "
    "答案 いや しかし だから 答え 아니 그러나 따라서"
)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+|[^\W\d_]+(?:['’][a-z]+)?|&")


def joined_boxes(text: str, boxes: list[Box]) -> list[Box]:
    """The last box and those before it that belong to the same answer."""
    first = len(boxes) - 1
    while first > 0 and _same_answer(text[boxes[first - 1].end : boxes[first].start]):
        first -= 1
    return boxes[first:]


def _same_answer(between: str) -> bool:
    """True for words that add a box to the one before; False for those that correct or go on."""
    if len(between) > _MAX_GAP or _SENTENCE_END.search(between):
        return False
    bare = _MARKUP.sub(" ", between.replace("\\in", "="))
    rest = _LABEL.sub(" ", _JOINING_PHRASE.sub(" and ", bare)).strip()
    if rest.endswith("=") or rest.startswith("="):
        return False  # one side of an equation, not a second answer
    said = {word.casefold() for word in _WORD.findall(rest)}
    if said & _NEW_CLAIM or any(word.endswith(("n't", "n’t")) for word in said):
        return False
    return bool(said & _JOINERS) or (bool(rest) and not rest.strip(" ,;&、"))
