"""Rewards that compare answers as text: last box, complete answer, regular expression."""

import re
from collections.abc import Sequence
from typing import Any, Literal

from rlnorm.rewards.calls import inline
from rlnorm.rewards.text import after_reasoning, find_boxes
from rlnorm.rewards.types import Sample, Score, Status

_INTEGER = re.compile(r"[+-]?\d{1,4000}", re.ASCII)


def verdict(correct: bool, **detail: Any) -> Score:
    """1.0 and correct, or 0.0 and wrong."""
    status = Status.CORRECT if correct else Status.WRONG
    return Score(components={"score": float(correct)}, status=status, detail=detail)


def no_answer(why: str) -> Score:
    """0.0: the text holds nothing that claims to be an answer."""
    return Score(components={"score": 0.0}, status=Status.NO_ANSWER, detail={"why": why})


def same_text(answer: str, gold: str, *, casefold: bool = False) -> bool:
    """Equal after stripping, or equal as integers (`007` is `7`)."""
    answer, gold = answer.strip(), gold.strip()
    if casefold:
        answer, gold = answer.casefold(), gold.casefold()
    if answer == gold:
        return True
    both = _INTEGER.fullmatch(answer) and _INTEGER.fullmatch(gold)
    return bool(both) and int(answer) == int(gold)


def _golds(gold: Any) -> list[str]:
    listed = gold if isinstance(gold, Sequence) and not isinstance(gold, str) else [gold]
    texts = [str(g) for g in listed if g is not None and str(g).strip()]
    if not texts:
        raise ValueError(f"gold = {gold!r}: this reward needs a gold answer")
    return texts


@inline
def boxed_exact(full_text: str, gold: Any) -> Score:
    r"""1.0 when the last `\boxed{}` after the reasoning equals the gold as text or integer."""
    golds = _golds(gold)
    text = after_reasoning(full_text)
    boxes = find_boxes(text) if text is not None else []
    if not boxes:
        return no_answer("no box")
    answer = boxes[-1].content
    if answer is None or not answer.strip():
        return verdict(False, why="the last box is empty or cut off")
    return verdict(any(same_text(answer, g) for g in golds), answer=answer[:200])


_TAG = ("<answer>", "</answer>")


def _answer_text(text: str, where: str) -> str | None:
    if where == "text":
        return text
    if where == "tag":
        _, opened, rest = text.rpartition(_TAG[0])
        answer, closed, _ = rest.partition(_TAG[1])
        return answer if opened and closed else None
    boxes = find_boxes(text)
    return boxes[-1].content if boxes else None


@inline
def exact(
    full_text: str,
    gold: Any,
    *,
    answer: Literal["text", "tag", "box"] = "text",
    casefold: bool = False,
) -> Score:
    r"""1.0 when the answer equals one of the golds.

    answer: everything after the reasoning, the last `<answer>`, or the last `\boxed{}`.
    """
    if answer not in ("text", "tag", "box"):
        raise ValueError(f"exact.answer = {answer!r}: allowed ['box', 'tag', 'text']")
    golds = _golds(gold)
    text = after_reasoning(full_text)
    found = _answer_text(text, answer) if text is not None else None
    if found is None or not found.strip():
        return no_answer(f"no {answer}")
    return verdict(any(same_text(found, g, casefold=casefold) for g in golds))


class Regex:
    """1.0 when the pattern matches what follows the reasoning.

    full: the complete answer must match, else any part of it. A group named `answer` must also
    equal the gold. Runs in a worker: a pattern that backtracks forever times out.
    """

    def __init__(self, pattern: str, full: bool = False) -> None:
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"regex.pattern = {pattern!r}: {error}") from error
        self._full = full

    def __call__(self, sample: Sample) -> Score:
        """Score one sample."""
        text = sample.after_reasoning
        if text is None:
            return no_answer("the reasoning never ends")
        text = text.strip()
        match = self._pattern.fullmatch(text) if self._full else self._pattern.search(text)
        if match is None or "answer" not in self._pattern.groupindex:
            return verdict(match is not None)
        caught = match["answer"] or ""
        return verdict(any(same_text(caught, g) for g in _golds(sample.gold)))
