import torch

from rlnorm.advantages.gdpo import gdpo
from rlnorm.types import Advantages

GROUPS = torch.tensor([0, 0, 0, 1, 1])
CORRECT = [1.0, 0.0, 0.0, 1.0, 1.0]  # centred 2/3 -1/3 -1/3 | constant
CONCISE = [0.0, 0.0, 3.0, 2.0, 6.0]  # centred -1 -1 2 | -2 2
REWARDS = torch.tensor([CORRECT, CONCISE], dtype=torch.float64).T


def close(got, want):
    got = got.values if isinstance(got, Advantages) else got
    torch.testing.assert_close(
        got, torch.as_tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )


def sums(eps):
    correct = [v / ((1 / 3) ** 0.5 + eps) for v in (2 / 3, -1 / 3, -1 / 3)] + [0.0, 0.0]
    first, second = 3**0.5 + eps, 8**0.5 + eps
    concise = [-1 / first, -1 / first, 2 / first, -2 / second, 2 / second]
    return torch.tensor([2 * a + b for a, b in zip(correct, concise, strict=True)]).double()


def test_weighted_sum_of_zscores_before_the_batch_stage():
    got = gdpo(REWARDS, GROUPS, weights=[2.0, 1.0], eps=0.25, batch_norm_weighting="none")
    torch.testing.assert_close(got.values, sums(0.25), rtol=1e-6, atol=1e-6)


def test_the_batch_stage_counts_rollouts():
    s = gdpo(REWARDS, GROUPS, weights=[2.0, 1.0], batch_norm_weighting="none").values
    expected = s / ((s.square().sum() / 4) ** 0.5 + 0.25)
    close(gdpo(REWARDS, GROUPS, weights=[2.0, 1.0], batch_eps=0.25), expected)
    population = s / ((s.square().sum() / 5) ** 0.5 + 1e-4)
    close(gdpo(REWARDS, GROUPS, weights=[2.0, 1.0], batch_ddof=0), population)


def test_or_tokens():
    lengths = torch.tensor([1, 2, 3, 1, 5])
    s = gdpo(REWARDS, GROUPS, batch_norm_weighting="none").values
    mean = (lengths * s).sum() / 12
    variance = (lengths * (s - mean).square()).sum() / 11
    got = gdpo(REWARDS, GROUPS, lengths, batch_norm_weighting="token", batch_eps=0.25)
    close(got, (s - mean) / (variance + 0.25) ** 0.5)


def test_two_rewards_do_not_collapse_into_one():
    # sums 0, 1 and 0, 2 would give the same advantages under GRPO
    table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    z = 0.5 / (0.5**0.5 + 1e-4)
    scale = (10 * z * z / 3) ** 0.5 + 1e-4
    got = gdpo(table, torch.tensor([0, 0, 1, 1]))
    close(got, [-z / scale, z / scale, -2 * z / scale, 2 * z / scale])


def test_a_missing_component_adds_nothing():
    table = torch.tensor([[1.0, float("nan")], [0.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    groups = torch.zeros(3, dtype=torch.long)
    got = gdpo(table, groups, eps=0.0, batch_norm_weighting="none")
    first, second = 3**0.5, 2**-0.5
    close(got, [2 / 3 * first, -1 / 3 * first - second, -1 / 3 * first + second])
    zeroed = gdpo(table, groups, eps=0.0, batch_norm_weighting="none", missing="zero")
    spread = (14 / 9) ** 0.5 * 3**0.5 / 2**0.5  # 0, 1, 3: squares 42/9 over 2
    close(zeroed.values[0], 2 / 3 * first - 4 / 3 / spread)


def test_another_base():
    got = gdpo(REWARDS, GROUPS, base="reinforce", batch_norm_weighting="none")
    close(got, [-1 / 3, -4 / 3, 5 / 3, -2, 2])
    medians = gdpo(REWARDS, GROUPS, base="mc_grpo", batch_eps=0.0)
    close(medians.values.mean(), 0.0)


def test_constant_components_everywhere_give_zero():
    got = gdpo(torch.full((5, 2), 0.1), GROUPS)
    assert torch.equal(got.values, torch.zeros(5, dtype=torch.float64))


def test_a_constant_group_gets_exactly_0_beside_others():
    """The sums of the other groups are 0 but for rounding, which must not be subtracted."""
    rewards = torch.tensor([0.7, 0.3, 0.1, 0.6, 0.6, 0.9, 0.8, 0.8], dtype=torch.float64)[:, None]
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    assert gdpo(rewards, groups).values[6:].tolist() == [0, 0]
