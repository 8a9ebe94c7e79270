import pytest
import torch

from rlnorm.advantages.pass_at_k import pass_at_k


@pytest.mark.parametrize("ddof", [0, 1])
def test_pass_at_k_rewards_the_best_by_its_lead(ddof, groups, rewards, masked, close):
    # leads 5 - 1 and 7 - 3; sums of squares 14 and 8
    a, b = (14 / (3 - ddof)) ** 0.5 + 0.5, (8 / (2 - ddof)) ** 0.5 + 0.5
    close(pass_at_k(rewards, groups, eps=0.5, ddof=ddof), [0, 0, 0, 4 / a, 4 / b, 0])
    close(pass_at_k(rewards, groups, norm_by_std=False), [0, 0, 0, 4, 4, 0])
    close(pass_at_k(masked, groups, norm_by_std=False), [1, 0, 0, 0, 4, 0])
    ties = torch.tensor([2.0, 2.0, 1.0])[:, None]
    close(pass_at_k(ties, torch.zeros(3, dtype=torch.long)), [0, 0, 0])
