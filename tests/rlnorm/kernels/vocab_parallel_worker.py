"""One rank of test_vocab_parallel.py: its columns of the head, results written to a file."""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from rlnorm.kernels import STATISTICS, MinP, fused_policy_loss, token_stats

T, V, D = 23, 41, 6
# rank 2 has 5 rows of padding after its columns, the first and the last nothing but padding
STARTS, ENDS, PADDING = (41, 0, 26, 41), (41, 26, 41, 41), (3, 0, 5, 2)


def problem():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(T, D, generator=generator)
    weight = 2 * torch.randn(V, D, generator=generator)
    bias = torch.randn(V, generator=generator) - 20  # no maximum may start at 0
    upstream = torch.randn(4, T, generator=generator)
    return hidden, weight, bias, torch.randint(V, (T,), generator=generator), upstream


def options():
    """Everything a call can be asked for at once."""
    temperature, mask = torch.linspace(0.7, 1.3, T), torch.arange(T) % 6 > 0
    return {
        "want": STATISTICS, "proxy": MinP(0.05, "raw"), "temperature": temperature,
        "softcap": 30.0, "row_mask": mask,
    }  # fmt: skip


def loss_of(stats, upstream):
    used = (stats.logprob, stats.entropy, stats.lse, stats.log_kept_mass)
    return sum((x * g).sum() for x, g in zip(used, upstream, strict=True))


def main(rank, store, backend, out):
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=len(STARTS),
        timeout=timedelta(seconds=60),
    )  # fmt: skip
    hidden, weight, bias, targets, upstream = problem()
    columns = slice(STARTS[rank], ENDS[rank])
    padding = torch.full((PADDING[rank], D), 1e3)
    shard = torch.cat([weight[columns], padding])
    bias_shard = torch.cat([bias[columns], padding[:, 0]])
    inputs = [x.requires_grad_() for x in (hidden, shard, bias_shard)]
    split = options() | {
        "bias": bias_shard, "backend": backend, "vocab_start": STARTS[rank], "vocab_size": V,
        "tp_group": dist.group.WORLD, "workspace_bytes": 1200,
    }  # fmt: skip
    stats = token_stats(hidden, shard, targets, **split)
    grads = torch.autograd.grad(loss_of(stats, upstream), inputs)
    fused = fused_policy_loss(
        hidden, shard, targets, lambda s, rows: loss_of(s, upstream[:, rows]), **split
    )
    fused_grads = torch.autograd.grad(fused.loss, inputs)
    torch.save((tuple(x.detach() for x in stats), grads, tuple(fused.stats), fused_grads), out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
