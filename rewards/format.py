"""Format rewards: 1.0 for the required shape, else 0.0. Linear scans, no backtracking."""

from rlnorm.rewards.calls import inline
from rlnorm.rewards.text import after_reasoning, find_boxes, first_turn

_CLOSERS = ("$", "\\)", "\\]", ".", "**")


@inline
def boxed_format(full_text: str) -> float:
    r"""1.0 for exactly one closed, non-empty `\boxed{}` at the very end.

    Only what closes the formula, the sentence or the turn may follow: `$`, `\)`, `\]`, `.`, `**`,
    space, an end-of-turn marker. 0.0 while the reasoning has not ended.
    """
    full_text = first_turn(full_text)
    boxes = find_boxes(full_text)
    if (
        after_reasoning(full_text) is None
        or len(boxes) != 1
        or not (boxes[0].content or "").strip()
    ):
        return 0.0
    rest = full_text[boxes[0].end :].strip()
    while rest:
        closer = next((c for c in _CLOSERS if rest.startswith(c)), None)
        if closer is None:
            return 0.0
        rest = rest[len(closer) :].lstrip()
    return 1.0


@inline
def think_format(
    completion: str, *, prefilled: bool | None = None, answer_tags: bool = False
) -> float:
    """1.0 for one `<think>...</think>` with nothing before it and an answer after it.

    prefilled: the chat template already opened the tag (True), never does (False), or either.
    answer_tags: what follows must be one `<answer>...</answer>` and nothing else.
    """
    completion = first_turn(completion)
    opening, closing = completion.count("<think>"), completion.count("</think>")
    if closing != 1 or opening > 1:
        return 0.0
    if (opening == 0 and prefilled is False) or (opening == 1 and prefilled is True):
        return 0.0
    before, _, answer = completion.partition("</think>")
    if opening and not before.lstrip().startswith("<think>"):
        return 0.0
    answer = answer.strip()
    if not answer_tags:
        return float(bool(answer))
    if answer.count("<answer>") != 1 or answer.count("</answer>") != 1:
        return 0.0
    enclosed = answer.startswith("<answer>") and answer.endswith("</answer>")
    return float(enclosed and bool(answer[len("<answer>") : -len("</answer>")].strip()))
