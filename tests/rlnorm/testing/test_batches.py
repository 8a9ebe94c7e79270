import torch

from rlnorm.testing.batches import constant_batch, random_batch


def test_rewards_lie_on_the_grid_of_their_range():
    batch = random_batch([3, 2], 2, -1.0, 3.0, seed=0)
    assert batch.rewards.shape == (5, 2)
    # eighths of the range: -1, -0.5, 0 ... 3
    steps = (batch.rewards + 1) * 2
    assert torch.equal(steps, steps.round())
    assert batch.rewards.min() >= -1
    assert batch.rewards.max() <= 3
    assert sorted(batch.group_index.tolist()) == [-3, -3, -3, 2, 2]
    assert torch.equal(batch.rewards, random_batch([3, 2], 2, -1.0, 3.0, seed=0).rewards)


def test_token_columns_follow_the_rows_taken():
    batch = random_batch([3], 1, 0.0, 1.0, seed=1)
    taken = batch.take(torch.tensor([2, 0]))
    lengths = [batch.lengths[2].item(), batch.lengths[0].item()]
    columns = taken.columns()
    assert columns["rollout_index"].tolist() == [0] * lengths[0] + [1] * lengths[1]
    assert columns["old_logprobs"][0] == batch.logprob[2]
    assert columns["old_logprobs"][-1] == batch.logprob[0]
    assert torch.equal(columns["entropy"], -columns["old_logprobs"])


def test_a_constant_batch_differs_in_all_but_its_rewards():
    batch = constant_batch(4, 2, 0.75)
    assert batch.rewards.tolist() == [[0.75, 0.75]] * 4
    assert batch.greedy_rewards.tolist() == [0.75] * 4
    assert len(set(batch.logprob.tolist())) == 4
