"""One rank of test_vocab_parallel.py: its columns of the head, results written to a file."""

import sys
from datetime import timedelta

import torch
import torch.distributed as dist

from rlnorm.kernels import STATISTICS, MinP, fused_policy_loss, token_stats

T, V, D = 23, 41, 6
# rank 1 holds fewer columns and 5 rows of padding after them; the target of some rows is in each
STARTS, ENDS, PADDING = (0, 26), (26, 41), (0, 5)


def problem():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(T, D, generator=generator)
    weight = 2 * torch.randn(V, D, generator=generator)
    upstream = torch.randn(4, T, generator=generator)
    return hidden, weight, torch.randint(V, (T,), generator=generator), upstream


def loss_of(stats, upstream):
    used = (stats.logprob, stats.entropy, stats.lse, stats.log_kept_mass)
    return sum((x * g).sum() for x, g in zip(used, upstream, strict=True))


def main(rank, store, backend, out):
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2,
        timeout=timedelta(seconds=60),
    )  # fmt: skip
    hidden, weight, targets, upstream = problem()
    shard = weight[STARTS[rank] : ENDS[rank]]
    shard = torch.cat([shard, torch.full((PADDING[rank], D), 1e3)]).requires_grad_()
    hidden.requires_grad_()
    options = {
        "want": STATISTICS, "proxy": MinP(0.05), "temperature": 0.9, "backend": backend,
        "vocab_start": STARTS[rank], "vocab_size": V, "tp_group": dist.group.WORLD,
        "workspace_bytes": 1200,
    }  # fmt: skip
    stats = token_stats(hidden, shard, targets, **options)
    grads = torch.autograd.grad(loss_of(stats, upstream), (hidden, shard))
    fused = fused_policy_loss(
        hidden, shard, targets, lambda s, rows: loss_of(s, upstream[:, rows]), **options
    )
    fused_grads = torch.autograd.grad(fused.loss, (hidden, shard))
    torch.save((tuple(x.detach() for x in stats), grads, fused_grads), out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
