from math import log

import torch

from rlnorm.kernels.rows import Partials
from rlnorm.kernels.summary import Summary, Upstream, merge, proxy_logprob, row_scalars, summarise
from rlnorm.kernels.types import HeadOptions


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_partials_of_two_blocks_are_those_of_both():
    # e^s: 4 2 | 8, the target in the first block
    first = Partials(*map(doubles, (log(4), 1 / 2, 0.5 * log(1 / 2), 5 / 4, log(2))))
    second = Partials(*map(doubles, (log(8), 0.0, 0.0, 1.0, -torch.inf)))
    got = merge([first, second])
    # against 8: 1/2 and 1/4
    torch.testing.assert_close(got.peak, doubles(log(8)))
    torch.testing.assert_close(got.rest, doubles(3 / 4))
    torch.testing.assert_close(got.centred, doubles(0.5 * log(1 / 2) + 0.25 * log(1 / 4)))
    torch.testing.assert_close(got.squares, doubles(1 + 1 / 4 + 1 / 16))
    torch.testing.assert_close(got.target, doubles(log(2)))


def test_statistics_follow_from_the_sums():
    # e^s = 3 and 1: p = 3/4, 1/4; the target is the second
    partials = Partials(*map(doubles, (log(3), 1 / 3, log(1 / 3) / 3, 10 / 9, 0.0)))
    options = HeadOptions(
        want=frozenset({"logprob", "entropy", "sum_p2"}), inv_temperature=torch.ones(1),
        columns=2, shard_columns=2, workspace_bytes=1,
    )  # fmt: skip
    got = summarise(partials, options)
    torch.testing.assert_close(got.logprob, doubles(log(1 / 4)))
    torch.testing.assert_close(got.entropy, doubles(log(4) - 3 / 4 * log(3)))
    torch.testing.assert_close(got.sum_p2, doubles(10 / 16))


def test_a_dropped_target_has_no_proxy_probability():
    got = proxy_logprob(doubles(-3.0, -3.0), doubles(-1.0, -1.0), doubles(1.0, 0.0))
    assert got.tolist() == [-2.0, -torch.inf]


def test_coefficients_of_logprob_and_lse():
    # d logprob / d s_target = 1 - p and d lse / d s_target = p, with p = 1/4
    summary = Summary(doubles(0.0), doubles(log(4)), doubles(log(1 / 4)), None, None)
    got = row_scalars(summary, Upstream(logprob=doubles(2.0), lse=doubles(5.0)), None)
    torch.testing.assert_close(got.a, doubles(-2.0 + 5.0))
    torch.testing.assert_close(got.at_target, doubles(2 * 3 / 4 + 5 / 4))
