"""Which part of a completion is the answer: after the reasoning, inside the last box. One pass."""

import re
from dataclasses import dataclass

_TOKENS = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


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
    """All outermost boxes in order, in linear time however they nest."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return []
    boxes: list[Box] = []
    stack: list[tuple[bool, int, int]] = []
    open_boxes = 0
    for token in _TOKENS.finditer(text):
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
