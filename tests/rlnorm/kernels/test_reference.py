from math import log

import torch

from rlnorm.kernels.reference import head_logits, stats_of
from rlnorm.kernels.types import HeadOptions, MinP


def options(**changed):
    given = {"want": frozenset({"logprob"}), "inv_temperature": torch.ones(1)}
    return HeadOptions(**given | {"columns": 2, "shard_columns": 2, "workspace_bytes": 1} | changed)


def test_logits_are_float64_products_without_the_padding():
    hidden, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0], [0.0, 2.0], [9.0, 9.0]])
    got = head_logits(hidden, weight, torch.tensor([0.5, 0.0, 9.0]), options())
    assert got.dtype == torch.float64
    # 3 + 2 + 0.5 and 0 + 4; the third row is padding
    assert got.tolist() == [[5.5, 4.0]]


def test_statistics_of_a_row_of_three_quarters_and_one_quarter():
    logits = torch.tensor([[log(3.0), 0.0]], dtype=torch.float64)
    got = stats_of(logits, torch.tensor([1]), options(proxy=MinP(1.0)))
    want = {
        "logprob": log(1 / 4),
        "entropy": log(4) - 3 / 4 * log(3),
        "lse": log(4),
        "max_logprob": log(3 / 4),
        "log_kept_mass": log(3 / 4),  # only the largest is kept
        "proxy_logprob": -torch.inf,
        "sum_p2": 9 / 16 + 1 / 16,
    }
    for name, value in want.items():
        expected = torch.tensor([value], dtype=torch.float64)
        torch.testing.assert_close(getattr(got, name), expected, msg=name)


def test_the_temperature_divides_the_logits():
    logits = torch.tensor([[2 * log(3.0), 0.0]], dtype=torch.float64)
    got = stats_of(logits, torch.tensor([0]), options(inv_temperature=torch.tensor([0.5])))
    torch.testing.assert_close(got.logprob, torch.tensor([log(3 / 4)], dtype=torch.float64))
