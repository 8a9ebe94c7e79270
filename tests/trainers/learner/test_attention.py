"""Packed attention against transformers' own padded attention, for four architectures."""

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlnorm.types import LossDenominators, TokenBatch
from trainers.learner import attention
from trainers.learner.core import trained_hidden
from trainers.learner.packing import microbatches, shard, take_rollouts

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MODELS = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    # a window of 4 is shorter than the rollouts, so the sliding layers matter
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=4)),
}
LENGTHS = (9, 3, 7, 2)


def batch_of(lengths: tuple[int, ...]) -> TokenBatch:
    torch.manual_seed(1)
    n, t = torch.tensor(lengths), sum(lengths)
    cu = torch.cat([n.new_zeros(1), n.cumsum(0)])
    index = torch.repeat_interleave(torch.arange(len(lengths)), n)
    positions = torch.arange(t) - cu[index]
    return TokenBatch(
        token_ids=torch.randint(0, 61, (t,)),
        positions=positions,
        rollout_index=index,
        cu_seqlens=cu,
        loss_mask=positions > 0,
        columns={"advantages": torch.randn(t)},
        temperature=1.0,
        denominators=LossDenominators(tokens=t, rollouts=len(lengths), horizon=8),
    )


def padded_hidden(model, batch: TokenBatch) -> torch.Tensor:
    """The same states from one unpacked forward a rollout."""
    rows = []
    for a, b in zip(batch.cu_seqlens[:-1].tolist(), batch.cu_seqlens[1:].tolist(), strict=True):
        hidden = model.model(input_ids=batch.token_ids[None, a:b]).last_hidden_state[0]
        rows.append(hidden[:-1])
    return torch.cat(rows)


@pytest.mark.parametrize("name", MODELS)
def test_packed_states_and_gradients_equal_unpacked_ones(name):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    batch = batch_of(LENGTHS)
    upstream = torch.randn(sum(LENGTHS) - len(LENGTHS), 32, dtype=torch.float64)
    results = []
    for implementation, states in (("eager", padded_hidden), (attention.NAME, trained_hidden)):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        hidden = states(model, batch)
        (hidden * upstream).sum().backward()
        gradient = model.model.layers[0].self_attn.k_proj.weight.grad.clone()
        results.append((hidden.detach(), gradient))
    # norms and rotary tables are float32 inside the models, in both
    torch.testing.assert_close(results[1], results[0], atol=2e-5, rtol=1e-5)


def test_microbatches_hold_every_rollout_once_and_within_budget():
    batch = batch_of(LENGTHS)
    chunks = microbatches(batch, 10)
    assert sorted(i for c in chunks for i in c.tolist()) == [0, 1, 2, 3]
    assert [batch.cu_seqlens.diff()[c].sum().item() for c in chunks] == [9, 10, 2]
    [whole] = microbatches(batch, 100)
    assert len(whole) == 4


def test_a_rollout_longer_than_the_budget_gets_its_own_microbatch():
    assert [c.tolist() for c in microbatches(batch_of(LENGTHS), 1)] == [[0], [2], [1], [3]]


def test_taken_rollouts_keep_their_tokens_columns_and_the_step_denominators():
    batch = batch_of(LENGTHS)
    part = take_rollouts(batch, torch.tensor([2, 0]))
    assert part.token_ids.tolist() == batch.token_ids[12:19].tolist() + batch.token_ids[:9].tolist()
    assert part.cu_seqlens.tolist() == [0, 7, 16]
    assert part.rollout_index.tolist() == [0] * 7 + [1] * 9
    assert part.positions.tolist() == [*range(7), *range(9)]
    assert torch.equal(part.columns["advantages"][:7], batch.columns["advantages"][12:19])
    assert part.denominators == batch.denominators


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shards_split_the_rollouts_and_balance_the_tokens(world_size):
    batch = batch_of((9, 3, 7, 2, 8, 4, 6))
    shards = [shard(batch, rank, world_size) for rank in range(world_size)]
    assert sorted(torch.cat([s.token_ids for s in shards]).tolist()) == sorted(
        batch.token_ids.tolist()
    )
    sizes = [len(s.token_ids) for s in shards]
    assert max(sizes) - min(sizes) <= 9
