"""Finds the answer in a completion: after the reasoning, inside the last box. One pass."""

import re
from dataclasses import dataclass

# every alternative starts with a literal, which lets the regex engine skip plain text fast
_TOKENS = re.compile(r"\{|\}|\\(?:\\*(?:boxed|fbox)\s*\{|.)", re.DOTALL)
_LAST_BOXES = 64
_NAMES = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|analysis|scratchpad|plan(?:ning)?"
    r"|rationale|cot|inner_monologue"
)
REASONING_TAG = re.compile(
    rf"(?P<open><(?:\w{{1,20}}[:_])?(?:{_NAMES})>|<\|(?:begin_of_thought|START_THINKING|think"
    r"|inner_prefix|channel\|>analysis<\|message)\|>|\[THINK\]|◁think▷)"
    rf"|</(?:\w{{1,20}}[:_])?(?:{_NAMES})>|<\|(?:end_of_thought|END_THINKING|/think|inner_suffix"
    r"|channel\|>final<\|message)\|>|\[/THINK\]|◁/think▷"
)
"""An opening tag of reasoning (the group `open`) or a closing one, in the forms of open models."""


@dataclass(frozen=True, slots=True)
class Box:
    r"""An outermost `\boxed{...}`; end is just past its closing brace, content None if cut off."""

    start: int
    end: int
    content: str | None


def after_reasoning(text: str) -> str | None:
    """What follows the last closing tag of reasoning; None while an opening one is not closed."""
    if "<" not in text and "[" not in text and "◁" not in text:
        return text
    opened, closed = False, 0
    for tag in REASONING_TAG.finditer(text):
        opened = tag["open"] is not None
        closed = closed if opened else tag.end()
    return None if opened else text[closed:]


def open_reasoning(text: str, *, at_start: bool = False) -> str:
    """The reasoning tag that the text opens and does not close; "" if there is none.

    at_start: count an opening tag only at the start of a line or after a colon.
    """
    opened = ""
    for tag in REASONING_TAG.finditer(text):
        if not tag["open"]:
            opened = ""
        elif not at_start or text[: tag.start()].rstrip(" \t")[-1:] in ("", "\n", ":"):
            opened = tag["open"]
    return opened


def find_boxes(text: str) -> list[Box]:
    """The outermost boxes in order, at most the last 64, in linear time however they nest."""
    begin = _scan_start(text)
    if begin < 0:
        return []
    boxes: list[Box] = []
    stack: list[tuple[bool, int, int]] = []
    open_boxes = 0
    for token in _TOKENS.finditer(text, begin):
        kind = token.group()
        if kind == "{":
            stack.append((False, 0, 0))
        elif kind == "}":
            if not stack:
                continue
            is_box, start, inner = stack.pop()
            open_boxes -= is_box
            if is_box and not open_boxes:
                boxes.append(Box(start, token.end(), text[inner : token.start()]))
        elif kind[-1] == "{" and len(kind) > 2:
            stack.append((True, token.start(), token.end()))
            open_boxes += 1
    cut = next((start for is_box, start, _ in stack if is_box), None)
    if cut is not None:
        boxes = [box for box in boxes if box.start < cut]
        boxes.append(Box(cut, len(text), None))
    return boxes


def _scan_start(text: str) -> int:
    """Where the 64th box from the end begins; -1 without any."""
    start, at = -1, len(text)
    for _ in range(_LAST_BOXES):
        at = max(text.rfind("\\boxed", 0, at), text.rfind("\\fbox", 0, at))
        if at < 0:
            break
        start = at
    return start
