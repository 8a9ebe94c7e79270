"""Length and repetition rewards, counted in tokens of the completion.

Sources: overlong, DAPO (arXiv:2503.14476, eq. 13) and verl's scaled form of it; cosine,
arXiv:2502.03373, with the clamp past the maximum; repetition, the share of repeated n-grams as
in the same paper.
"""

import math
from collections.abc import Mapping, Sequence

from rlnorm.rewards.calls import inline
from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.types import Score


def _length(token_ids: Sequence[int], completion: str) -> int:
    if completion and not len(token_ids):
        raise ValueError("length rewards count tokens: the sample has text but no token_ids")
    return len(token_ids)


@inline
def overlong(
    token_ids: Sequence[int],
    completion: str,
    finish: str,
    *,
    max_tokens: int,
    cache_tokens: int,
    penalty_factor: float | None = None,
) -> float:
    """0 up to max_tokens - cache_tokens, then linear in the number of tokens.

    penalty_factor: None is the paper's form, -1 at max_tokens and beyond, and for a completion
    cut by the generation limit whatever its length. A number is verl's form, -penalty_factor at
    max_tokens, falling on beyond it, by the length alone.
    """
    if not 0 < cache_tokens <= max_tokens:
        raise ValueError(f"overlong.cache_tokens = {cache_tokens}: needs 1 to {max_tokens}")
    over = max(0, _length(token_ids, completion) - (max_tokens - cache_tokens)) / cache_tokens
    if penalty_factor is not None:
        return 0.0 - penalty_factor * over
    return -1.0 if finish == "length" else 0.0 - min(1.0, over)


@inline
def cosine_length(
    token_ids: Sequence[int],
    completion: str,
    scores: Mapping[str, ComponentScore],
    *,
    max_tokens: int,
    correct: str = "correct",
    correct_range: Sequence[float] = (1.0, 0.5),
    wrong_range: Sequence[float] = (-1.0, -0.5),
) -> Score:
    """Half a cosine over length, from range[0] at 0 tokens to range[1] at max_tokens and beyond.

    correct: the component that selects the range (> 0 is correct); if its score is not a verdict,
    neither is this one.
    """
    if correct not in scores:
        raise ValueError(f"cosine_length.correct = {correct!r}: allowed {sorted(scores)}")
    judged = scores[correct]
    if not judged.status.is_verdict:
        return Score(components={"score": math.nan}, status=judged.status)
    start, end = correct_range if judged.value > 0 else wrong_range
    progress = min(1.0, _length(token_ids, completion) / max_tokens)
    value = end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * progress))
    return Score(components={"score": value}, status=judged.status)


def repeated_ngram_frac(token_ids: Sequence[int], n: int) -> float:
    """1 - distinct / total n-grams; 0 when there are fewer than two."""
    total = len(token_ids) - n + 1
    if total < 2:
        return 0.0
    ids = tuple(token_ids)
    return 1.0 - len({ids[i : i + n] for i in range(total)}) / total


@inline
def repetition(
    token_ids: Sequence[int], completion: str, *, n: int = 20, max_penalty: float = 1.0
) -> float:
    """-max_penalty times the share of repeated n-grams of token ids."""
    if n < 1:
        raise ValueError(f"repetition.n = {n}: needs at least 1")
    _length(token_ids, completion)
    return 0.0 - max_penalty * repeated_ngram_frac(token_ids, n)
