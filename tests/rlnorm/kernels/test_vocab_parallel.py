"""A head split over four processes against the same head in one."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from rlnorm.kernels import TokenStats, token_stats
from rlnorm.kernels.backends import resolve_backend
from rlnorm.kernels.rows import RowInputs
from rlnorm.kernels.summary import merge

WORKER = Path(__file__).with_name("vocab_parallel_worker.py")
spec = spec_from_file_location("vocab_parallel_worker", WORKER)
worker = module_from_spec(spec)
spec.loader.exec_module(worker)
RANKS = range(len(worker.STARTS))


def test_four_ranks_agree_bitwise_and_match_one_process(backend, tmp_path):
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    files = [tmp_path / f"{rank}.pt" for rank in RANKS]
    ranks = [
        subprocess.Popen(
            [sys.executable, WORKER, str(rank), tmp_path / "store", backend, files[rank]],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for rank in RANKS
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

    hidden, weight, bias, targets, upstream = worker.problem()
    inputs = [x.requires_grad_() for x in (hidden, weight, bias)]
    whole = token_stats(hidden, weight, targets, bias=bias, backend="reference", **worker.options())
    wanted = torch.autograd.grad(worker.loss_of(whole, upstream), inputs)
    for rank, (stats, gradients, fused_stats, fused_gradients) in enumerate(results):
        for ours in (stats, fused_stats):
            assert all(torch.equal(x, y) for x, y in zip(ours, results[0][0], strict=True))
        for name, got, want in zip(TokenStats._fields, stats, whole, strict=True):
            torch.testing.assert_close(got, want.detach(), rtol=1e-5, atol=1e-5, msg=name)
        columns = worker.ENDS[rank] - worker.STARTS[rank]
        expected = [wanted[0], *(x[worker.STARTS[rank] : worker.ENDS[rank]] for x in wanted[1:])]
        for of_hidden, *of_shards in (gradients, fused_gradients):
            held = [of_hidden, *(x[:columns] for x in of_shards)]
            for got, want in zip(held, expected, strict=True):
                torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
            assert not any(x[columns:].any() for x in of_shards)


def test_a_rank_of_forbidden_tokens_adds_nothing(backend):
    rows = resolve_backend(backend, torch.device("cpu"), torch.float32).rows
    inputs = RowInputs(torch.tensor([1]), torch.ones(1), None)
    allowed = torch.tensor([[1.0, 2.0, 0.5]])
    parts = [
        rows.statistics(z, inputs, entropy=True, squares=True)
        for z in (torch.full((1, 7), -torch.inf), allowed, torch.full((1, 7), -torch.inf))
    ]
    for order in ((0, 1), (1, 0), (0, 1, 2)):
        for got, want in zip(merge([parts[i] for i in order]), parts[1], strict=True):
            torch.testing.assert_close(got, want)


def test_a_split_vocabulary_needs_a_group_and_a_size():
    hidden, weight = torch.zeros(2, 3), torch.zeros(4, 3)
    targets = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="vocab_start"):
        token_stats(hidden, weight, targets, vocab_start=4)
    with pytest.raises(ValueError, match="tp_group"):
        token_stats(hidden, weight, targets, tp_group=object())
