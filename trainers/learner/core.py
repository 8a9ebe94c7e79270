"""Forward passes, scores and the loss of one microbatch, shared by all learners."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlnorm.algorithms import Algorithm
from rlnorm.kernels import MinP, TokenStats, token_stats
from rlnorm.trainers.learner.attention import VarlenLayout, gather_rows
from rlnorm.trainers.learner.packing import microbatches, take_rollouts, token_index
from rlnorm.trainers.learner.types import Columns
from rlnorm.trainers.models import base_model
from rlnorm.types import TokenBatch

STAT_OF_COLUMN = {
    "old_logprobs": "logprob",
    "ref_logprobs": "logprob",
    "proximal_logprobs": "logprob",
    "proxy_logprobs": "proxy_logprob",
    "entropy": "entropy",
    "sum_p2": "sum_p2",
}
"""The token statistic of each scored column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The output projection, separate from the body because full logits are never stored."""

    weight: Float[Tensor, "v d"]
    bias: Float[Tensor, " v"] | None
    softcap: float | None


def head_of(model: nn.Module) -> Head:
    """The model's head; with LoRA, its base weight plus the adapters' product, differentiable."""
    causal: Any = model  # has attributes that nn.Module does not declare
    layer = causal.get_output_embeddings()
    softcap = getattr(causal.config, "final_logit_softcapping", None)
    if not hasattr(layer, "base_layer"):
        return Head(weight=layer.weight, bias=getattr(layer, "bias", None), softcap=softcap)
    weight = layer.base_layer.weight
    for name in layer.active_adapters:
        delta = layer.lora_B[name].weight @ layer.lora_A[name].weight
        weight = weight + layer.scaling[name] * delta.to(weight.dtype)
    return Head(weight=weight, bias=getattr(layer.base_layer, "bias", None), softcap=softcap)


def body_of(model: nn.Module) -> nn.Module:
    """The decoder below the head, including adapters."""
    plain = base_model(model)
    body: nn.Module = getattr(plain, plain.base_model_prefix)
    return body


def node_hidden(model: nn.Module, batch: TokenBatch, layout: VarlenLayout) -> Float[Tensor, "m d"]:
    """The hidden state at every node of a packed batch's prefix tree."""
    token = layout.tree.token
    hidden: Tensor = body_of(model)(
        input_ids=batch.token_ids[token][None],
        position_ids=batch.positions[token][None],
        attention_mask=None,
        use_cache=False,
        varlen=layout,
    ).last_hidden_state[0]
    return hidden


def batch_stats(
    model: nn.Module, batch: TokenBatch, want: tuple[str, ...], kappa: float | None = None
) -> TokenStats:
    """Statistics of the trained tokens of one microbatch, through the fused head.

    A token's statistics depend only on its prefix and itself, that is, on its node: they are
    computed once per node and copied to all trained tokens of that node.
    """
    head, layout = head_of(model), VarlenLayout.of(batch)
    node, token = layout.tree.node, layout.tree.token
    trained, index = node[batch.loss_mask].unique(return_inverse=True)
    before = node[token[trained] - 1]
    stats = token_stats(
        gather_rows(node_hidden(model, batch, layout), before),
        head.weight,
        batch.token_ids[token[trained]],
        temperature=batch.temperature,
        want=want,
        proxy=None if kappa is None else MinP(kappa),
        bias=head.bias,
        softcap=head.softcap,
    )
    return TokenStats(*(None if s is None else gather_rows(s, index) for s in stats))


@torch.no_grad()
def score_batch(
    model: nn.Module,
    batch: TokenBatch,
    want: frozenset[str],
    *,
    max_tokens: int,
    kappa: float | None = None,
) -> Columns:
    """The wanted columns on the CPU. max_tokens: of a microbatch, which limits the memory."""
    out = {name: torch.zeros(len(batch.token_ids)) for name in sorted(want)}
    stats = tuple(sorted({STAT_OF_COLUMN[name] for name in want}))
    device = next(model.parameters()).device
    for chosen in microbatches(batch, max_tokens):
        micro = take_rollouts(batch, chosen)
        result = batch_stats(model, to_device(micro, device), stats, kappa)
        tokens = token_index(batch, chosen)[micro.loss_mask]
        for name, column in out.items():
            column[tokens] = getattr(result, STAT_OF_COLUMN[name]).float().cpu()
    return out


def to_device(batch: TokenBatch, device: torch.device) -> TokenBatch:
    """The same batch with every tensor on device."""
    if batch.token_ids.device == device:
        return batch
    moved = {
        f.name: getattr(batch, f.name).to(device)
        for f in fields(batch)
        if isinstance(getattr(batch, f.name), Tensor)
    }
    columns = {name: column.to(device) for name, column in batch.columns.items()}
    return replace(batch, columns=columns, **moved)


def save_fault(batch: TokenBatch, folder: Path, version: int) -> None:
    """Save the batch of a skipped step, numbered within its policy version."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"version_{version:06d}"
    torch.save(batch, folder / f"{stem}_{len(list(folder.glob(f'{stem}_*.pt')))}.pt")


def microbatch_loss(
    model: nn.Module, batch: TokenBatch, algorithm: Algorithm
) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
    """This microbatch's part of the step's loss and metrics, which are sums over microbatches."""
    stats = batch_stats(model, batch, ("entropy", "logprob"))
    assert stats.logprob is not None
    assert stats.entropy is not None
    data = {name: column[batch.loss_mask] for name, column in batch.columns.items()}
    data["logprobs"], data["entropy"] = stats.logprob, stats.entropy
    data["rollout_index"] = batch.rollout_index[batch.loss_mask]
    if "selected" in data:
        data["selected"] = data["selected"].bool()
    loss, metrics = algorithm.loss(data, batch.denominators)
    with torch.no_grad():
        gap = data["sampler_logprobs"] - stats.logprob
        tokens = batch.denominators.tokens
        # k3 of the sampler against the learner: exp(d) - 1 - d with d = learner - sampler
        metrics["kl_sampler"] = (torch.exp(-gap) - 1 + gap).sum() / tokens
        metrics["logprob_gap_mean"] = gap.abs().sum() / tokens
    return loss, {f"policy/{name}": value for name, value in metrics.items()}
