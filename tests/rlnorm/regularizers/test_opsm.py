import torch

from rlnorm.regularizers.opsm import opsm


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_opsm_drops_wrong_rollouts_the_policy_left():
    logprobs, sampler = vector(-3.0, -1.0, -3.0, -1.0), vector(-1.0, -1.0, -1.0, -1.0)
    index = torch.tensor([0, 0, 1, 1])
    # mean drift 1 in both; only the second is wrong
    term = opsm(logprobs, sampler, vector(1.0, 1.0, -1.0, -1.0), index, threshold=0.9)
    assert term.where.tolist() == [False, False, True, True]
    assert not opsm(logprobs, sampler, -vector(1, 1, 1, 1), index, threshold=1.0).where.any()
