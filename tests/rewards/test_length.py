import math

import pytest

from rlnorm.rewards.length import cosine_length, overlong, repeated_ngram_frac, repetition
from rlnorm.rewards.results import ComponentScore, failure
from rlnorm.rewards.types import Status


@pytest.mark.parametrize(
    ("length", "value"),
    [(0, 0.0), (60, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0), (150, -1.0)],
)
def test_overlong_is_linear_over_the_cache_and_clamped(length, value):
    assert overlong(range(length), "x" * length, "stop", max_tokens=100, cache_tokens=20) == value


def test_overlong_of_a_cut_completion_is_full_whatever_its_length():
    assert overlong(range(10), "x", "length", max_tokens=100, cache_tokens=20) == -1.0


@pytest.mark.parametrize(
    ("length", "penalty_factor", "value"),
    [(18432, None, -0.5), (18432, 2.0, -1.0), (24576, None, -1.0), (24576, 2.0, -4.0)],
)
def test_overlong_has_the_papers_form_without_a_factor_and_verls_with_one(
    length, penalty_factor, value
):
    options = {"max_tokens": 20480, "cache_tokens": 4096, "penalty_factor": penalty_factor}
    assert overlong(range(length), "x", "stop", **options) == value


def test_overlong_in_verls_form_looks_at_the_length_alone():
    options = {"max_tokens": 100, "cache_tokens": 20, "penalty_factor": 1.0}
    assert overlong(range(90), "x", "length", **options) == -0.5


def test_length_rewards_refuse_text_without_tokens():
    with pytest.raises(ValueError, match="no token_ids"):
        overlong((), "text", "stop", max_tokens=100, cache_tokens=20)
    with pytest.raises(ValueError, match="needs 1 to 100"):
        overlong((1,), "t", "stop", max_tokens=100, cache_tokens=0)


@pytest.mark.parametrize(
    ("length", "correct", "value"),
    [
        (0, 1.0, 1.0),
        (50, 1.0, 0.75),  # cos(pi/2) = 0: the middle of [0.5, 1]
        (100, 1.0, 0.5),
        (200, 1.0, 0.5),  # clamped: the cosine must not rise again
        (0, 0.0, -1.0),
        (50, 0.0, -0.75),
        (100, 0.0, -0.5),
        (25, 1.0, 0.5 + 0.25 * (1 + math.sqrt(0.5))),
    ],
)
def test_cosine_length(length, correct, value):
    judged = ComponentScore(correct, Status.CORRECT if correct else Status.WRONG)
    score = cosine_length(range(length), "", {"correct": judged}, max_tokens=100)
    assert score.components["score"] == pytest.approx(value)


def test_cosine_length_has_no_verdict_where_correctness_has_none():
    scores = {"correct": failure(Status.TIMEOUT, "slow")}
    score = cosine_length(range(5), "", scores, max_tokens=100)
    assert score.status is Status.TIMEOUT
    assert math.isnan(score.components["score"])
    with pytest.raises(ValueError, match="allowed"):
        cosine_length(range(5), "", scores, max_tokens=100, correct="other")


def test_repetition_counts_repeated_ngrams():
    # bigrams of 1 2 1 2 1: 12 21 12 21; two of four distinct
    assert repeated_ngram_frac([1, 2, 1, 2, 1], 2) == 0.5
    assert repeated_ngram_frac([1, 2, 3, 4], 2) == 0.0
    assert repeated_ngram_frac([1, 2], 2) == 0.0
    assert repetition([1, 2, 1, 2, 1], "x", n=2, max_penalty=3.0) == -1.5
    assert repetition([], "", n=2) == 0.0
