import jaxtyping
import pytest
import torch

from rlnorm.groups import make_groups
from rlnorm.inputs import check_rewards, from_matrix, group_relative

NAN = float("nan")


def test_a_matrix_of_prompts_by_rollouts():
    rewards, groups = from_matrix(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert rewards.tolist() == [1, 2, 3, 4, 5, 6]
    assert groups.tolist() == [0, 0, 0, 1, 1, 1]


def test_with_several_rewards():
    matrix = torch.tensor([[[1.0, 10.0], [2.0, 20.0]], [[3.0, 30.0], [4.0, 40.0]]])
    rewards, groups = from_matrix(matrix)
    assert rewards.tolist() == [[1, 10], [2, 20], [3, 30], [4, 40]]
    assert groups.tolist() == [0, 0, 1, 1]
    assert torch.equal(rewards.reshape(matrix.shape), matrix)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 0), (1, 2, 3, 4)])
def test_other_shapes_are_no_matrix(shape):
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=r"shape \(.*\): needs \[prompts, G\] or"):
            from_matrix(torch.zeros(shape))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_one_reward_is_a_table_of_one_column():
    table, groups = check_rewards("f", torch.tensor([1.0, 2.0, 3.0]), torch.tensor([7, 5, 7]))
    assert table.tolist() == [[1], [2], [3]]
    assert table.dtype == torch.float64
    assert groups.index.tolist() == [1, 0, 1]


def test_which_rollouts_of_a_group_train():
    groups = make_groups(torch.tensor([0, 0, 0, 1, 2, 2, 3]))
    # group 1 is one rollout with value 0, of group 2 one has no reward, group 3 is alone with 5
    rewards = torch.tensor([1.0, 0.0, NAN, 1.0, 1.0, NAN, 5.0], dtype=torch.float64)
    values = torch.tensor([0.5, 0.0, NAN, 0.0, 0.0, NAN, 5.0], dtype=torch.float64)
    got = group_relative(values, rewards, groups)
    assert got.values.tolist() == [0.5, 0, 0, 0, 0, 0, 5]
    assert got.keep.tolist() == [True, True, False, False, False, False, True]
    # with two columns a rollout counts as soon as it has one of them
    pairs = torch.stack([rewards, torch.ones_like(rewards)], dim=1)
    assert group_relative(values.nan_to_num(0.0), pairs, groups).keep.tolist() == [
        *(True, True, True, False, True, True, True)
    ]
