"""A loss by name against numbers a reader can redo, value and gradient."""

import pytest
import torch

from rlnorm.losses import LOSSES
from rlnorm.stages import data_of

INDEX = torch.tensor([0, 0, 1, 1])


@pytest.fixture
def run():
    """Values, gradients of their sum, and the result, for given ratios to the old policy."""

    def call(name, ratios, advantages, index=INDEX, logprob=-2.0, **options):
        logprobs = torch.full((len(ratios),), logprob, dtype=torch.float64, requires_grad=True)
        data = {
            "logprobs": logprobs,
            "old_logprobs": logprobs.detach() - torch.tensor(ratios, dtype=torch.float64).log(),
            "advantages": torch.tensor(advantages, dtype=torch.float64),
            "rollout_index": index,
        }
        result = LOSSES[name](**{n: data[n] for n in data_of(LOSSES[name])[0]}, **options)
        (gradient,) = torch.autograd.grad(result.values.sum(), logprobs)
        return result.values.detach(), gradient, result

    return call


@pytest.fixture
def close():
    def compare(got, want):
        want = torch.as_tensor(want, dtype=torch.float64)
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)

    return compare
