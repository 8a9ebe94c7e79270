"""Finds the answer in a completion: its first turn, after the reasoning, inside the last box."""

import re
from typing import NamedTuple

# every alternative starts with a literal, which lets the regex engine skip plain text fast
_TOKENS = re.compile(r"\{|\}|\\++(?:(?:boxed|fbox)\s*\{|[{}])?")
_LAST_BOXES = 64
# the next speaker's opening ends a turn too; <|end|> between two channels of one answer does not
_END_OF_TURN = re.compile(
    r"<(?:[|｜](?i:im_end|eot(?:_id)?|eom(?:_id)?|eo[sda]|end_?of_?(?:text|turn|message|sequence)"
    r"|end[_▁]of[_▁]sentence|end_of_turn_token|end_assistant|role_end|return|call|stop|im_user"
    r"|user|human|system|observation|endofprompt)[|｜]>"
    r"|\|end\|>(?!\s*<\|start\|>assistant)|\|im_start\|>(?!\s*assistant)|\|start\|>(?!assistant)"
    r"|\|(?:start_header_id|header_start|start_of_role)\|>(?!\s*assistant)"
    r"|/s>|(?i:eo[sdat]|eop|im_end|end_?of_?(?:text|turn|utterance))>|seed:eos>|turn\|>"
    r"|start_of_turn>(?!\s*model)|\|turn>(?!\s*model))"
    r"|\[(?:/?INST|EOS|eos|\|endofturn\||\|user\||\|system\||UNUSED_TOKEN_14[56])\]"
)
# closes the prompt, so it opens the answer
_OPENING = re.compile(
    r"\s*(?:\[/INST\]|<\|im_start\|>\s*assistant|<start_of_turn>model|<[|｜][Aa]ssistant[|｜]>"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>)"
)
_QUOTES = ("'", '"', "`")
_FINAL = "<|channel|>final<|message|>"
_NAMES = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|analysis|scratchpad|plan(?:ning)?"
    r"|rationale|cot|inner_monologue"
)
_PIPED = r"(?:think(?:ing)?|thought|reason(?:ing)?)"
REASONING_TAG = re.compile(
    rf"(?P<open><(?i:(?:\w{{1,20}}[:_])?(?:{_NAMES})|think_start)>"
    rf"|<\|(?i:(?:begin_of_|start_)?{_PIPED}|inner_prefix)\|>|<\|channel\|>analysis<\|message\|>"
    r"|\[(?i:think|reasoning)\]|◁think▷)"
    rf"|</(?i:(?:\w{{1,20}}[:_])?(?:{_NAMES}))>|<(?i:think_end)>"
    rf"|<\|(?i:(?:end_of_|end_|/){_PIPED}|inner_suffix)\|>|<\|channel\|>final<\|message\|>"
    r"|\[/(?i:think|reasoning)\]|◁/think▷"
)
"""An opening tag of reasoning (the group `open`) or a closing one, in the forms of open models."""


class Box(NamedTuple):
    r"""An outermost `\boxed{...}`; end is just past its closing brace, content None if cut off."""

    start: int
    end: int
    content: str | None


def first_turn(completion: str) -> str:
    """What precedes the first end-of-turn marker of any model family; a quoted marker is text."""
    if "<" not in completion and "[" not in completion:
        return completion
    opening = _OPENING.match(completion)
    text = completion[opening.end() :] if opening else completion
    for marker in _END_OF_TURN.finditer(text):
        start, end = marker.span()
        if text[max(0, start - 1) : start] not in _QUOTES or text[end : end + 1] not in _QUOTES:
            return text[:start]
    return text


def after_reasoning(text: str) -> str | None:
    """What follows the last closing tag of reasoning in the first turn, or opens a last channel
    named final; None while an opening tag is not closed, or where no channel is named final."""
    text = first_turn(text)
    if "<" not in text and "[" not in text and "◁" not in text:
        return text
    if "<|channel|>" in text:
        _, found, final = text.rpartition(_FINAL)
        return final if found else None
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
    begin = _scan_start(text) if "box" in text else -1
    if begin < 0:
        return []
    boxes: list[Box] = []
    stack: list[tuple[bool, int, int]] = []
    open_boxes = 0
    for token in _TOKENS.finditer(text, begin):
        kind = token.group()
        if kind[0] == "\\" and "box" not in kind:
            if kind[-1] == "\\" or len(kind) % 2 == 0:
                continue  # an escaped brace, or none
            kind = kind[-1]
        if kind == "{":
            stack.append((False, 0, 0))
        elif kind == "}":
            if not stack:
                continue
            is_box, start, inner = stack.pop()
            open_boxes -= is_box
            if is_box and not open_boxes:
                boxes.append(Box(start, token.end(), text[inner : token.start()]))
        else:
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
