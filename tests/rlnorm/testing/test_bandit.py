import pytest
import torch

from rlnorm.testing.bandit import LOGITS, VALUES, bandit_gradient


def test_the_reward_itself_is_unbiased():
    got = bandit_gradient(lambda batch: list(batch.rewards), 1, 0.0, 1.0)
    assert got.cosine == pytest.approx(1)
    assert got.relative_bias == pytest.approx(0, abs=1e-12)
    # one sample: E |v (e_a - p)|^2 - |g|^2
    p, v = torch.tensor(LOGITS).double().softmax(0), torch.tensor(VALUES).double()
    gradient = p * (v - p @ v)
    scores = torch.eye(4).double() - p
    second = (p * v.square() * scores.square().sum(1)).sum()
    assert got.variance == pytest.approx(float(second - gradient.square().sum()))


def test_half_of_the_reward_is_half_of_the_gradient():
    got = bandit_gradient(lambda batch: list(batch.rewards / 2), 2, 0.0, 1.0)
    assert got.cosine == pytest.approx(1)
    assert got.relative_bias == pytest.approx(0.5)


def test_the_sign_of_the_reward_turns_the_gradient():
    got = bandit_gradient(lambda batch: list(-batch.rewards), 1, 0.0, 1.0)
    assert got.cosine == pytest.approx(-1)
    assert got.relative_bias == pytest.approx(2)
