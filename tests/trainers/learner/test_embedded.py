"""The learner of one process: what must not move a number, and what must."""

import pytest
import torch

from rlnorm.algorithms import resolve_algorithm
from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.learner.embedded import EmbeddedLearner
from rlnorm.trainers.models import load_tokenizer
from rlnorm.types import LossDenominators, TokenBatch


@pytest.fixture
def batch() -> TokenBatch:
    """Six rollouts of 5 to 14 random tokens, the first two of each a prompt."""
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(5, 15, (6,), generator=g)
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rollout_index = torch.repeat_interleave(torch.arange(6), lengths)
    positions = torch.arange(int(cu_seqlens[-1])) - cu_seqlens[rollout_index]
    mask = positions >= 2
    names = ("advantages", "old_logprobs", "sampler_logprobs", "ref_logprobs")
    noise = torch.randn(4, len(positions), generator=g)
    noise[1:] = -6 - noise[1:].abs()
    return TokenBatch(
        token_ids=torch.randint(0, 200, (len(positions),), generator=g),
        positions=positions,
        rollout_index=rollout_index,
        cu_seqlens=cu_seqlens,
        loss_mask=mask,
        columns={n: c.where(mask, 0.0) for n, c in zip(names, noise, strict=True)},
        temperature=0.8,
        denominators=LossDenominators(tokens=int(mask.sum()), rollouts=6, horizon=12),
    )


async def started(tmp_path, *, lora_rank: int = 0, tokenizer=None, **options) -> EmbeddedLearner:
    learner = EmbeddedLearner(
        ModelConfig(path="shipped:quick", lora={"rank": lora_rank} if lora_rank else None),
        LearnerConfig(**options),
        resolve_algorithm("grpo", {"regularizers": [{"name": "kl", "coef": 0.04}]}),
        tokenizer,
        seed=0,
        device=torch.device("cpu"),
        faults=tmp_path,
    )
    await learner.start()
    return learner


def gradients(learner: EmbeddedLearner) -> torch.Tensor:
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    return torch.cat([p.grad.flatten() for p in trained])


@pytest.mark.parametrize("lora_rank", [0, 4])
async def test_checkpointing_and_the_budget_leave_loss_and_gradients_alone(
    tmp_path, batch, lora_rank
):
    plain = await started(tmp_path, lora_rank=lora_rank)
    loss, _ = plain.backward(batch)
    for options in ({"gradient_checkpointing": True}, {"tokens_per_microbatch": 20}):
        other = await started(tmp_path, lora_rank=lora_rank, **options)
        assert other.backward(batch)[0] == pytest.approx(loss, rel=1e-6)
        difference = (gradients(other) - gradients(plain)).norm()
        assert float(difference / gradients(plain).norm()) < 1e-6, options


async def test_checkpointing_holds_fewer_activations(tmp_path, batch):
    """Tensors kept for the backward pass: otherwise the test above could compare like with like."""
    held = []
    for checkpointing in (False, True):
        learner = await started(tmp_path, gradient_checkpointing=checkpointing)
        kept: list[int] = []

        def keep(tensor, kept=kept):
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            learner.backward(batch)
        held.append(sum(kept))
    assert held[1] < held[0] / 2


@pytest.mark.parametrize("lora_rank", [0, 4])
async def test_the_reference_stays_while_the_policy_moves(tmp_path, batch, lora_rank):
    want = frozenset({"old_logprobs", "ref_logprobs"})
    learner = await started(tmp_path, lora_rank=lora_rank)
    before = await learner.score(batch, want)
    assert torch.equal(before["old_logprobs"], before["ref_logprobs"])
    for _ in range(3):  # adapters begin at 0: their first step moves one factor only
        await learner.step(batch, 1e-2)
    after = await learner.score(batch, want)
    assert torch.equal(after["ref_logprobs"], before["ref_logprobs"])
    assert float((after["old_logprobs"] - before["old_logprobs"]).abs().mean()) > 1e-2


async def test_the_gradient_is_clipped_to_its_largest_norm_which_is_told(tmp_path, batch):
    learner = await started(tmp_path, grad_clip=1e-3)
    result = await learner.step(batch, 1e-4)
    assert result.grad_norm > 1e-2
    assert float(gradients(learner).norm()) == pytest.approx(1e-3, rel=1e-4)


async def test_a_loaded_learner_takes_the_step_that_the_saved_one_takes(tmp_path, batch):
    saved = await started(tmp_path, tokenizer=load_tokenizer("shipped:quick"))
    await saved.step(batch, lr=1e-2)
    await saved.save(tmp_path)
    loaded = await started(tmp_path)
    await loaded.load(tmp_path)
    assert loaded.policy_version == saved.policy_version == 1
    for weights in ("before", "after"):
        mine, its = loaded.model.state_dict(), saved.model.state_dict()
        assert all(torch.equal(mine[name], its[name]) for name in its), f"{weights} the next step"
        await saved.step(batch, lr=1e-2)
        await loaded.step(batch, lr=1e-2)
