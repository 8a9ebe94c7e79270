"""Finds the answer in a completion: after the reasoning, inside the last box. One pass."""

import re
from dataclasses import dataclass

# every alternative starts with a literal, which lets the regex engine skip plain text fast
_TOKENS = re.compile(r"\{|\}|\\(?:\\*(?:boxed|fbox)\s*\{|.)", re.DOTALL)
_LAST_BOXES = 64


@dataclass(frozen=True, slots=True)
class Box:
    r"""An outermost `\boxed{...}`; end is just past its closing brace, content None if cut off."""

    start: int
    end: int
    content: str | None


def after_reasoning(completion: str) -> str | None:
    """What follows the last `</think>`; None while a `<think>` is still open."""
    closed = completion.rfind("</think>")
    opened = completion.rfind("<think>")
    if opened > closed:
        return None
    return completion if closed < 0 else completion[closed + len("</think>") :]


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
