"""The learner's statistics against the model's own logits, which it never holds whole."""

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, Qwen3Config, Qwen3ForCausalLM

from rlnorm.algorithms import resolve_algorithm
from rlnorm.trainers.learner import attention
from rlnorm.trainers.learner.core import batch_stats, microbatch_loss
from rlnorm.types import LossDenominators, TokenBatch

V = 2048
SHAPE = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}


def batch_of(lengths: tuple[int, ...], temperature: float = 1.0) -> TokenBatch:
    torch.manual_seed(1)
    n, t = torch.tensor(lengths), sum(lengths)
    cu = torch.cat([n.new_zeros(1), n.cumsum(0)])
    index = torch.repeat_interleave(torch.arange(len(lengths)), n)
    positions = torch.arange(t) - cu[index]
    mask = positions > 0
    columns = {name: -torch.rand(t) for name in ("sampler_logprobs", "old_logprobs")}
    return TokenBatch(
        token_ids=torch.randint(0, V, (t,)),
        positions=positions,
        rollout_index=index,
        cu_seqlens=cu,
        loss_mask=mask,
        columns={**columns, "advantages": torch.randn(t)},
        temperature=temperature,
        denominators=LossDenominators(
            tokens=int(mask.sum()), rollouts=len(lengths), horizon=max(lengths)
        ),
    )


def qwen3():
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**SHAPE)).eval()


def with_lora_head():
    model = get_peft_model(qwen3(), LoraConfig(r=4, lora_alpha=8, target_modules=["lm_head"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return model.eval()


def soft_capped():
    torch.manual_seed(0)
    return Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, final_logit_softcapping=0.5)).eval()


@pytest.mark.parametrize("make", [qwen3, with_lora_head, soft_capped])
def test_logprobs_and_entropy_are_those_of_the_models_own_logits(make):
    model, batch = make(), batch_of((9, 6), temperature=0.7)
    # a shared beginning, one of whose tokens trains in the second rollout only
    batch.token_ids[9:12] = batch.token_ids[:3]
    batch.loss_mask[2] = False
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    plain.set_attn_implementation("eager")
    expected = []
    with torch.no_grad():
        for a, b in ((0, 9), (9, 15)):
            ids = batch.token_ids[None, a:b]
            expected.append((model(input_ids=ids).logits[0, :-1] / 0.7).log_softmax(-1))
        logprobs = torch.cat(expected)[batch.loss_mask[batch.positions > 0]]
        plain.set_attn_implementation(attention.NAME)
        stats = batch_stats(model, batch, ("logprob", "entropy"))
    targets = batch.token_ids[batch.loss_mask]
    torch.testing.assert_close(
        stats.logprob, logprobs.gather(1, targets[:, None])[:, 0], atol=2e-5, rtol=1e-5
    )
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    torch.testing.assert_close(stats.entropy, entropy, atol=2e-5, rtol=1e-5)


def test_the_mismatch_is_k3_of_the_sampler_against_the_learner():
    model, batch = qwen3(), batch_of((9, 6))
    model.set_attn_implementation(attention.NAME)
    with torch.no_grad():
        logprobs = batch_stats(model, batch, ("logprob",)).logprob
        # the learner gives ln 2 more than the sampler to each token: 2 - 1 - ln 2
        batch.columns["sampler_logprobs"][batch.loss_mask] = logprobs - math.log(2)
        _, metrics = microbatch_loss(model, batch, resolve_algorithm("grpo"))
    assert metrics["policy/kl_sampler"].item() == pytest.approx(1 - math.log(2), rel=1e-4)
    assert metrics["policy/logprob_gap_mean"].item() == pytest.approx(math.log(2), rel=1e-5)


class Largest(TorchDispatchMode):
    """The most elements any tensor made under it has."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


def test_no_pass_of_the_learner_holds_the_logits(monkeypatch):
    model, batch = qwen3(), batch_of((200,) * 5)
    model.set_attn_implementation(attention.NAME)
    monkeypatch.setattr("rlnorm.kernels.prepare.CPU_WORKSPACE_BYTES", 2**20)
    logits = int(batch.loss_mask.sum()) * V
    with Largest() as seen:
        loss, _ = microbatch_loss(model, batch, resolve_algorithm("grpo"))
        loss.backward()
    assert seen.numel <= logits / 4
    model.set_attn_implementation("eager")
    with Largest() as seen:
        model(input_ids=batch.token_ids[None, :200])
    assert seen.numel >= 200 * V  # what it looks for is seen where it happens
