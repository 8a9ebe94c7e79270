"""The parity probe's arithmetic, and the channel of a single process."""

import copy
import inspect
import math

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from rlnorm.algorithms import resolve_algorithm
from rlnorm.trainers.cluster.ray import ClusterError
from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.learner.deepspeed_learner import DeepSpeedLearner
from rlnorm.trainers.learner.embedded import EmbeddedLearner
from rlnorm.trainers.rollout.local import LocalPool
from rlnorm.trainers.sync import DeviceSource, RefSource, SharedMemoryChannel, fixed_batch, gap


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
    with pytest.raises(ValueError, match="at least two tokens"):
        fixed_batch([(5, 6), (7,)], temperature=1.0)


async def test_a_learner_whose_logprobs_are_nan_does_not_pass_the_probe(tmp_path):
    options = {"seed": 0, "device": torch.device("cpu"), "faults": tmp_path}
    model, algorithm = ModelConfig(path="shipped:quick"), resolve_algorithm("grpo")
    learner = EmbeddedLearner(model, LearnerConfig(), algorithm, None, **options)
    await learner.start()
    pool = LocalPool(copy.deepcopy(learner.model))  # what it samples with is sound
    await pool.start()
    channel = SharedMemoryChannel(probe=[(5, 6, 7, 8), (9, 8, 7)])
    assert (await channel.publish(learner, pool)).parity_gap < 1e-5
    with torch.no_grad():
        learner.model.model.norm.weight[0] = math.nan
    with pytest.raises(ClusterError, match="differ by nan nats on average"):
        await channel.publish(learner, pool)
    await pool.close()


async def test_an_architecture_that_the_learner_computes_wrong_is_refused_at_the_start(tmp_path):
    torch.manual_seed(0)
    size = {"vocab_size": 61, "hidden_size": 16, "intermediate_size": 16, "initializer_range": 0.3}
    depth = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    # this family divides its logits, of which the learner's fused head knows nothing
    config = GraniteConfig(**size, **depth, logits_scaling=8.0, pad_token_id=0)
    GraniteForCausalLM(config).save_pretrained(tmp_path)
    model, device = ModelConfig(path=str(tmp_path)), torch.device("cpu")
    algorithm = resolve_algorithm("grpo")
    learner = EmbeddedLearner(
        model, LearnerConfig(), algorithm, None, seed=0, device=device, faults=tmp_path
    )
    await learner.start()
    pool = LocalPool(learner.model)
    await pool.start()
    channel = SharedMemoryChannel(probe=[(5, 6, 7, 8), (9, 8, 7)])
    with pytest.raises(ClusterError, match=r"version 0: .* alarm 0.001\); nothing has trained yet"):
        await channel.publish(learner, pool)
    await pool.close()


@pytest.mark.parametrize(
    ("protocol", "method"),
    [(RefSource, "weight_refs"), (DeviceSource, "connect_device"), (DeviceSource, "send_device")],
)
def test_the_ranks_send_weights_as_the_channel_asks_for_them(protocol, method):
    # isinstance() with a runtime-checkable Protocol looks at names only
    wanted = inspect.signature(getattr(protocol, method))
    assert inspect.signature(getattr(DeepSpeedLearner, method)) == wanted
