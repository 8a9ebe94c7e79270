"""Attention over a prefix tree against transformers' own, one rollout at a time."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlnorm.errors import InputError
from rlnorm.trainers.learner import attention
from rlnorm.trainers.learner.attention import VarlenLayout
from rlnorm.trainers.learner.core import node_hidden
from rlnorm.types import TokenBatch

SHAPE = dict(
    vocab_size=61, hidden_size=32, intermediate_size=48, max_position_embeddings=64,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
)  # fmt: skip


MODELS = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    # a window of 4 is shorter than the rollouts, so the sliding layers matter
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=4)),
}


def own_hidden(model, batch: TokenBatch) -> torch.Tensor:
    """The state at every token from one forward pass a rollout."""
    bounds = zip(batch.cu_seqlens[:-1].tolist(), batch.cu_seqlens[1:].tolist(), strict=True)
    rows = [model.model(input_ids=batch.token_ids[None, a:b]) for a, b in bounds]
    return torch.cat([row.last_hidden_state[0] for row in rows])


def tree_hidden(model, batch: TokenBatch) -> torch.Tensor:
    """The same states from one pass over the nodes."""
    layout = VarlenLayout.of(batch)
    return node_hidden(model, batch, layout)[layout.tree.node]


@pytest.mark.parametrize("name", MODELS)
def test_states_and_gradients_equal_those_of_one_pass_a_rollout(name, batch_of, rollouts):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    batch = batch_of(rollouts)
    upstream = torch.randn(len(batch.token_ids), 32, dtype=torch.float64)
    results = []
    for implementation, states in (("eager", own_hidden), (attention.NAME, tree_hidden)):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        hidden = states(model, batch)
        (hidden * upstream).sum().backward()
        layer = model.model.layers[0].self_attn
        gradients = [p.weight.grad.clone() for p in (layer.q_proj, layer.k_proj, layer.v_proj)]
        results.append((hidden.detach(), *gradients))
    # norms and rotary tables are float32 inside the models, in both
    for got, expected in zip(results[1], results[0], strict=True):
        assert (got - expected).norm() <= 2e-6 * expected.norm()


def test_soft_capped_scores_are_bad_input(batch_of, rollouts):
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8)).eval()
    model.set_attn_implementation(attention.NAME)
    with pytest.raises(InputError, match=r"model.path: attention softcap = 50.0: .* not supported"):
        tree_hidden(model, batch_of(rollouts))


def test_attention_leaves_out_rollouts_that_add_nothing(batch_of, rollouts):
    layout = VarlenLayout.of(batch_of(rollouts))
    # the repeated rollout and (6, 7, 8) stand for no node
    assert layout.cu_seqlens.diff().tolist() == [7, 4, 6, 9]
