"""A head split over two processes against the same head in one."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from rlnorm.kernels import STATISTICS, MinP, TokenStats, token_stats

WORKER = Path(__file__).with_name("vocab_parallel_worker.py")
spec = spec_from_file_location("vocab_parallel_worker", WORKER)
worker = module_from_spec(spec)
spec.loader.exec_module(worker)


def test_two_ranks_agree_bitwise_and_match_one_process(backend, tmp_path):
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    ranks = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), tmp_path / "store", backend, files[rank]],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for rank in ranks:
            _, errors = rank.communicate(timeout=120)
            assert rank.returncode == 0, errors
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait(timeout=10)
    results = [torch.load(file) for file in files]

    hidden, weight, targets, upstream = worker.problem()
    hidden.requires_grad_(), weight.requires_grad_()
    whole = token_stats(
        hidden, weight, targets, want=STATISTICS, proxy=MinP(0.05), temperature=0.9,
        backend="reference",
    )  # fmt: skip
    d_hidden, d_weight = torch.autograd.grad(worker.loss_of(whole, upstream), (hidden, weight))
    for stats, *gradients in results:
        assert all(torch.equal(x, y) for x, y in zip(stats, results[0][0], strict=True))
        for name, got, want in zip(TokenStats._fields, stats, whole, strict=True):
            torch.testing.assert_close(got, want.detach(), rtol=1e-5, atol=1e-5, msg=name)
        for of_hidden, _ in gradients:
            torch.testing.assert_close(of_hidden, d_hidden, rtol=1e-4, atol=1e-5)
    for rank, (_, *gradients) in enumerate(results):
        for _, of_shard in gradients:
            columns = worker.ENDS[rank] - worker.STARTS[rank]
            expected = d_weight[worker.STARTS[rank] : worker.ENDS[rank]]
            torch.testing.assert_close(of_shard[:columns], expected, rtol=1e-4, atol=1e-5)
            assert not of_shard[columns:].any()


def test_a_split_vocabulary_needs_a_group_and_a_size():
    hidden, weight = torch.zeros(2, 3), torch.zeros(4, 3)
    targets = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="vocab_start"):
        token_stats(hidden, weight, targets, vocab_start=4)
    with pytest.raises(ValueError, match="tp_group"):
        token_stats(hidden, weight, targets, tp_group=object())
