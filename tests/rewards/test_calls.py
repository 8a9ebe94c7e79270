"""The parameters of a reward: data by name, or one Sample; anything else is refused by name."""

import functools

import pytest

from rlnorm.errors import InputError
from rlnorm.rewards.calls import build_call
from rlnorm.rewards.types import Sample

SAMPLE = Sample(id="1", group="g", completion="abc", gold="4")


def whole(sample):
    return len(sample.completion)


def by_name(completion, gold, after_reasoning):
    return (completion, gold, after_reasoning)


def with_option(sample, *, scale=1.0):
    return scale * len(sample.completion)


def of_trl(completions, **kwargs):
    return [0.0 for _ in completions]


def prompts(prompts):
    return 0.0


def anything(x):
    return 0.0


def keywords(sample, **kwargs):
    return 0.0


def positions(*args):
    return 0.0


def nothing():
    return 0.0


def plain_option(sample, scale=1.0):
    return 0.0


class Called:
    def __call__(self, text):
        return 0.0


class Scores:
    def score(self, samples):
        return [1.0 for _ in samples]


class ScoresOne:
    def score(self, sample):
        return 1.0


class ScoresTrl:
    def score(self, prompts, completions):
        return []


def test_a_sample_or_its_fields_by_name():
    assert build_call(whole, {}, "r").invoke(SAMPLE) == 3
    assert build_call(by_name, {}, "r").invoke(SAMPLE) == ("abc", "4", "abc")
    assert build_call(with_option, {"scale": 2.0}, "r").invoke(SAMPLE) == 6
    assert build_call(lambda sample: sample.gold, {}, "r").invoke(SAMPLE) == "4"
    assert build_call(functools.partial(with_option, scale=3.0), {}, "r").invoke(SAMPLE) == 9
    assert build_call(Scores, {}, "r").invoke([SAMPLE]) == [1.0]


@pytest.mark.parametrize(
    ("function", "parameter", "form"),
    [
        (of_trl, "`completions`, did you mean 'completion'?", "`def of_trl(sample)`"),
        (lambda completion, answer: 0.0, "`answer`, did you mean 'gold'?", "`lambda sample: ...`"),
        (
            lambda completion, solution: 0.0,
            "`solution`, did you mean 'gold'?",
            "`lambda sample: ...`",
        ),
        (prompts, "`prompts`", "`def prompts(sample)`"),
        (anything, "`x`", "`def anything(sample)`"),
        (keywords, "`**kwargs`", "`def keywords(sample)`"),
        (positions, "`*args`", "`def positions(sample)`"),
        (plain_option, "`scale=1.0`", "options stand after a `*`"),
        (lambda s: 0.0, "`s`", "`lambda sample: ...`"),
        (Called, "`text`", "`def __call__(self, sample)`"),
        (nothing, "takes no data", "`def nothing(sample)`"),
        (ScoresOne, r"score(sample)", "`def score(self, samples)`"),
        (ScoresTrl, r"score(prompts, completions)", "`def score(self, samples)`"),
    ],
)
def test_any_other_parameter_is_refused_with_the_right_form(function, parameter, form):
    with pytest.raises(InputError) as refused:
        build_call(function, {}, "rewards.mine")
    message = str(refused.value)
    assert message.startswith("rewards.mine.function: ")
    assert parameter in message
    assert form in message
    assert "\n" not in message
