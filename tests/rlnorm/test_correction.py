from math import exp, log

import pytest
import torch

from rlnorm.correction import masked, rejected, truncated

INDEX = torch.tensor([0, 0, 1])
# ratios 4, 0.5 | 0.25; their products 2 | 0.25
OLD = torch.tensor([log(4.0), log(0.5), log(0.25)], dtype=torch.float64)
SAMPLER = torch.zeros(3, dtype=torch.float64)


def close(got, want):
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


def test_truncated_caps_token_or_sequence_weights():
    close(truncated(OLD, SAMPLER, INDEX, cap=3.0), [3, 0.5, 0.25])
    close(truncated(OLD, SAMPLER, INDEX, level="sequence", cap=1.5), [1.5, 1.5, 0.25])


def test_masked_zeroes_what_is_out_of_bounds():
    close(masked(OLD, SAMPLER, INDEX, low=0.3, high=4.5), [4, 0.5, 0])
    close(masked(OLD, SAMPLER, INDEX, level="sequence", low=0.0, high=1.9), [0, 0, 0.25])


def test_batch_normalise_counts_tokens_or_rollouts():
    tokens = truncated(OLD, SAMPLER, INDEX, cap=3.0, batch_normalize=True)
    close(tokens, [3 / 1.25, 0.5 / 1.25, 0.25 / 1.25])
    rollouts = truncated(OLD, SAMPLER, INDEX, level="sequence", cap=9.0, batch_normalize=True)
    close(rollouts, [2 / 1.125, 2 / 1.125, 0.25 / 1.125])
    close(masked(OLD, SAMPLER, INDEX, low=9.0, high=9.0, batch_normalize=True), [0, 0, 0])


def test_rejected_by_token_and_by_rollout():
    # sampler - old: -1.39, 0.69 | 1.39; bounds log(1/3), log(3) = -1.1, 1.1
    close(rejected(OLD, SAMPLER, INDEX, high=3.0), [0, 1, 0])
    # means of sampler - old: -0.35 | 1.39
    close(rejected(OLD, SAMPLER, INDEX, level="seq_mean", high=3.0), [1, 1, 0])
    close(rejected(OLD, SAMPLER, INDEX, level="seq_sum", low=0.6, high=5.0), [0, 0, 1])
    # k2: 0.96 0.24 | 0.96, so means 0.60 | 0.96
    close(rejected(OLD, SAMPLER, INDEX, kind="k2", level="seq_max", high=0.7), [0, 0, 0])
    close(rejected(OLD, SAMPLER, INDEX, kind="k2", level="seq_mean", high=0.7), [1, 1, 0])
    close(rejected(OLD, SAMPLER, INDEX, kind="k2", high=0.7), [0, 1, 0])
    # k3 of ratio 4: 3 - log 4 = 1.61, of 0.5: 0.19, of 0.25: 0.64
    close(rejected(OLD, SAMPLER, INDEX, kind="k3", high=1.0), [0, 1, 1])


def test_weights_are_constants_and_log_ratios_are_bounded():
    old = torch.tensor([900.0], requires_grad=True)
    weights = truncated(old, torch.zeros(1), torch.tensor([0]), cap=1e30)
    assert not weights.requires_grad
    assert weights.item() == pytest.approx(exp(20.0))


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (truncated, {"cap": 0.0}, "cap = 0.0, needs more than 0"),
        (masked, {"low": 2.0, "high": 1.0}, "0 <= low <= high"),
        (rejected, {"kind": "k2", "low": 0.5}, "only a high above 0"),
        (rejected, {"high": 0.5}, "low, high = 2.0, 0.5: needs 0 < low <= high"),
        (rejected, {"level": "seq_max"}, "takes kind 'k2' or 'k3', got 'k1'"),
    ],
)
def test_bounds_that_make_no_sense(call, options, message):
    with pytest.raises(ValueError, match=message):
        call(OLD, SAMPLER, INDEX, **options)
