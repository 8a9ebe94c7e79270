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
from rlnorm.trainers.learner.prefix_tree import PrefixTree
from rlnorm.types import LossDenominators, TokenBatch

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
# two prompts, shared beginnings, a repeated rollout, one that is the beginning of another
ROLLOUTS = (
    (5, 7, 8, 9, 1, 2, 3),
    (5, 7, 8, 4),
    (6, 7, 8, 9, 1, 2),
    (5, 7, 8, 9, 1, 2, 3),
    (5, 7, 2, 9, 1, 2, 3, 4, 4),
    (6, 7, 8),
)


def batch_of(rollouts: tuple[tuple[int, ...], ...]) -> TokenBatch:
    n = torch.tensor([len(r) for r in rollouts])
    t = int(n.sum())
    cu = torch.cat([n.new_zeros(1), n.cumsum(0)])
    index = torch.repeat_interleave(torch.arange(len(rollouts)), n)
    positions = torch.arange(t) - cu[index]
    return TokenBatch(
        token_ids=torch.tensor([x for r in rollouts for x in r]),
        positions=positions,
        rollout_index=index,
        cu_seqlens=cu,
        loss_mask=positions > 0,
        columns={},
        temperature=1.0,
        denominators=LossDenominators(tokens=t, rollouts=len(rollouts), horizon=8),
    )


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
def test_states_and_gradients_equal_those_of_one_pass_a_rollout(name):
    torch.manual_seed(0)
    model = MODELS[name]().double().eval()
    batch = batch_of(ROLLOUTS)
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


def test_soft_capped_scores_are_bad_input():
    model = Gemma2ForCausalLM(Gemma2Config(**SHAPE, head_dim=8)).eval()
    model.set_attn_implementation(attention.NAME)
    with pytest.raises(InputError, match=r"model.path: attention softcap = 50.0: .* are not supported"):
        tree_hidden(model, batch_of(ROLLOUTS))


def test_the_nodes_of_a_tree_are_its_distinct_prefixes():
    # 5-7-8, 5-7-9 and 6-7-8: the second adds one node, the third three
    tree = PrefixTree.of(batch_of(((5, 7, 8), (5, 7, 9), (6, 7, 8))))
    assert tree.token.tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert tree.node.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 6]


def test_every_token_is_at_the_node_of_its_prefix():
    batch = batch_of(ROLLOUTS)
    tree = PrefixTree.of(batch)
    prefixes = [r[: i + 1] for r in ROLLOUTS for i in range(len(r))]
    assert len(tree.token) == len(set(prefixes)) == 21
    assert [prefixes[i] for i in tree.token[tree.node].tolist()] == prefixes


def test_attention_leaves_out_rollouts_that_add_nothing():
    layout = VarlenLayout.of(batch_of(ROLLOUTS))
    # the repeated rollout and (6, 7, 8) stand for no node
    assert layout.cu_seqlens.diff().tolist() == [7, 4, 6, 9]
