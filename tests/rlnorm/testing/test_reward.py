import math
import random
import threading
import time
from types import SimpleNamespace

import pytest

from rlnorm.testing import check_reward


class Sample(SimpleNamespace):
    """Anything with the fields will do."""


SAMPLES = [Sample(completion="92", gold="92", meta={}), Sample(completion="9", gold="92", meta={})]


def good(completion, gold):
    return float(completion == gold)


def weighted(sample, *, scale=1.0):
    return scale * len(sample.completion)


async def good_async(sample):
    return {"a": 1.0, "b": 0.5}


def good_batch(samples):
    return [float(len(s.completion)) for s in samples]


def short_batch(samples):
    return [1.0]


def unstable(sample):
    return random.random()


def changes(sample):
    sample.meta["seen"] = True
    return 1.0


def slow(sample):
    time.sleep(0.05)
    return 1.0


def not_finite(sample):
    return math.inf


def words(sample):
    return "good"


class Infra:
    def score(self, batch):
        return [SimpleNamespace(status="infra_error", components={"j": 0.0}) for _ in batch]


class Connected:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, sample):
        return 1.0


def test_good_rewards_pass_and_are_measured():
    report = check_reward(good, SAMPLES)
    assert [dict(v) for v in report.values] == [{"score": 1.0}, {"score": 0.0}]
    assert 0 <= report.seconds_mean <= report.seconds_max < 0.1
    values = check_reward(weighted, SAMPLES, options={"scale": 3.0}).values
    assert [v["score"] for v in values] == [6.0, 3.0]
    assert check_reward(good_async, SAMPLES, components=["a", "b"]).values[0]["b"] == 0.5
    assert check_reward(good_batch, SAMPLES).values[1]["score"] == 1.0


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (unstable, "not deterministic"),
        (changes, "changes the samples"),
        (slow, "s per sample, allowed 0.01"),
        (not_finite, "needs a finite number"),
        (words, "needs a number"),
        (good_async, r"\['a', 'b'\]: needs \['one number'\]"),
        (short_batch, "1 scores for 2 samples"),
        (Infra(), "a failure must be NaN"),
        (Connected(), r"cannot be sent to another process: it holds lock \(a _thread.lock\)"),
    ],
)
def test_each_broken_rule_is_named(reward, message):
    fresh = [Sample(**vars(s) | {"meta": {}}) for s in SAMPLES]
    with pytest.raises(AssertionError, match=message):
        check_reward(reward, fresh, seconds_per_sample=0.01)


def test_needs_samples():
    with pytest.raises(ValueError, match="at least one"):
        check_reward(good, [])


def test_a_parameter_of_another_name_is_named():
    with pytest.raises(AssertionError, match=r"no 'completions': take `sample` itself"):
        check_reward(lambda completions: 1.0, SAMPLES)
