import torch

from rlnorm.advantages.otb import otb

INDEX = torch.tensor([0, 0, 1, 2, 2, 2])


GROUPS = torch.tensor([4, 4, 4])


REWARDS = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)[:, None]


def test_otb_weighs_returns_by_accumulated_score_norms(close):
    old = torch.tensor([0.5, 0.25, 0.5, 0.25, 0.5, 0.5], dtype=torch.float64).log()
    p2 = torch.tensor([0.5, 0.5, 0.25, 0.5, 0.25, 0.25], dtype=torch.float64)
    # 1 - 2p + sum p^2: .5 1 | .25 | 1 .25 .25; running: .5 1.5 | .25 | 1 1.25 1.5
    step0 = (2 * 0.5 + 0 + 1) / (0.5 + 0.25 + 1 + 0.25)
    step1 = (2 * 1.5 + 1.25) / (1.5 + 1.25 + 0.25)
    got = otb(REWARDS, GROUPS, INDEX, old, p2, eps=0.25)
    close(got, [2 - step0, 2 - step1, -step0, 1 - step0, 1 - step1, 1])
    tail = otb(REWARDS, GROUPS, INDEX, old, p2, eps=0.25, zero_tail=False)
    close(tail.values[-1], 1 - 1.5 / (1.5 + 0.25))


def test_otb_of_equal_rewards_or_a_group_of_one_is_zero():
    old, p2 = torch.full((6,), -1.0), torch.full((6,), 0.2)
    same = torch.full((3, 1), 0.1)
    assert torch.equal(
        otb(same, GROUPS, INDEX, old, p2).values, torch.zeros(6, dtype=torch.float64)
    )
    apart = otb(REWARDS, torch.tensor([0, 1, 2]), INDEX, old, p2)
    assert torch.equal(apart.values, torch.zeros(6, dtype=torch.float64))
