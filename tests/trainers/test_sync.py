"""The parity probe's arithmetic, and the channel of a single process."""

import inspect
import math

import pytest
import torch

from trainers.learner.deepspeed_learner import DeepSpeedLearner
from trainers.sync import DeviceSource, RefSource, fixed_batch, gap


def test_gap_is_the_mean_and_largest_difference_of_the_worst_engine():
    ours = [torch.tensor([-1.0, -2.0]), torch.tensor([-3.0])]
    near = [torch.tensor([-1.0, -2.0]), torch.tensor([-3.3])]  # mean 0.1
    far = [torch.tensor([-1.5, -2.0]), torch.tensor([-2.9])]  # mean 0.2, largest 0.5
    mean, largest = gap(ours, [near, far])
    assert mean == pytest.approx(0.2)
    assert largest == pytest.approx(0.5)


def test_a_nan_logprob_is_no_parity():
    mean, _ = gap([torch.tensor([-1.0])], [[torch.tensor([-9.0])], [torch.tensor([math.nan])]])
    assert math.isnan(mean)
    assert not mean <= 1e9


def test_fixed_sequences_are_scored_from_their_second_token():
    batch = fixed_batch([(5, 6, 7), (8, 9)], temperature=0.5)
    assert batch.token_ids.tolist() == [5, 6, 7, 8, 9]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1]
    assert batch.loss_mask.tolist() == [False, True, True, False, True]
    assert batch.cu_seqlens.tolist() == [0, 3, 5]
    assert (batch.denominators.tokens, batch.denominators.rollouts) == (3, 2)


def test_a_sequence_of_one_token_says_nothing():
    with pytest.raises(ValueError, match="two tokens at least"):
        fixed_batch([(5, 6), (7,)], temperature=1.0)


@pytest.mark.parametrize(
    ("protocol", "method"),
    [(RefSource, "weight_refs"), (DeviceSource, "connect_device"), (DeviceSource, "send_device")],
)
def test_the_ranks_send_weights_as_the_channel_asks_for_them(protocol, method):
    # isinstance() with a runtime-checkable Protocol looks at names only
    wanted = inspect.signature(getattr(protocol, method))
    assert inspect.signature(getattr(DeepSpeedLearner, method)) == wanted
