import pytest
import torch

from rlnorm.trainers.rollout.sampling import (
    RowSampling,
    check_sampling,
    kept_tokens,
    sample,
    uniforms,
)
from rlnorm.trainers.rollout.types import SamplingParams

CPU = torch.device("cpu")
MASK = (1 << 64) - 1


def mix(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def test_uniforms_are_splitmix_in_whole_numbers():
    seeds = [0, 1, 12345, (1 << 63) - 1]
    for position in (0, 1, 77):
        step = (position + 1) * 0x9E3779B97F4A7C15
        expected = [(mix(mix(s) + step & MASK) >> 12) / 2**52 for s in seeds]
        assert uniforms(torch.tensor(seeds), position).tolist() == expected


def test_splitmix_gives_the_published_first_value():
    # SplitMix64 started at 0 returns 0xE220A8397B1DCDAF first, and mix(0) is 0
    assert uniforms(torch.tensor([0]), 0).item() == (0xE220A8397B1DCDAF >> 12) / 2**52


def test_uniforms_of_neighbouring_seeds_and_positions_are_unrelated():
    seeds = torch.arange(20_000)
    a, b, c = uniforms(seeds, 0), uniforms(seeds, 1), uniforms(seeds + 1, 0)
    assert a.mean() == pytest.approx(0.5, abs=0.01)
    assert a.var() == pytest.approx(1 / 12, abs=0.002)
    # the standard error of a correlation of 20,000 pairs is 0.007
    for other in (b, c):
        assert abs(torch.corrcoef(torch.stack([a, other]))[0, 1]) < 0.03


def brute_force(logits, top_k, top_p, min_p):
    """The kept set, one rule after the other, on a list of floats."""
    weights = torch.tensor(logits).double().exp().tolist()
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    order = [i for i in order if weights[i] >= min_p * weights[order[0]]]
    if top_k:
        edge = logits[order[min(top_k, len(order)) - 1]]
        order = [i for i in order if logits[i] >= edge]
    if top_p < 1:
        total, kept, mass = sum(weights[i] for i in order), [], 0.0
        for i in order:
            if mass >= top_p * total:
                break
            kept.append(i)
            mass += weights[i]
        order = kept
    return set(order)


# probabilities .4 .3 .15 .1 .05 in an order of their own
LOGITS = torch.tensor([0.15, 0.4, 0.05, 0.3, 0.1]).log()


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, {1, 3}),
        ({"top_p": 0.69}, {1, 3}),
        ({"top_p": 0.71}, {1, 3, 0}),
        ({"top_p": 0.01}, {1}),
        ({"min_p": 0.36}, {1, 3, 0}),
        # of the three that top-k leaves, .4 / .85 = .47 and .7 / .85 = .82
        ({"top_k": 3, "top_p": 0.8}, {1, 3}),
        ({"top_k": 9}, {0, 1, 2, 3, 4}),
        ({"min_p": 0.36, "top_p": 0.8}, {1, 3}),
        ({}, {0, 1, 2, 3, 4}),
    ],
    ids=str,
)
def test_kept_tokens_of_known_probabilities(options, kept):
    options = {"top_k": 0, "top_p": 1.0, "min_p": 0.0} | options
    rows = RowSampling.of([SamplingParams(**options)], CPU)
    mask = kept_tokens(LOGITS[None], rows.top_k, rows.top_p, rows.min_p)[0]
    assert set(mask.nonzero()[:, 0].tolist()) == kept == brute_force(LOGITS.tolist(), **options)


def test_kept_tokens_match_brute_force_with_ties_and_mixed_rows():
    torch.manual_seed(3)
    logits = (2 * torch.randn(200, 17)).round()  # whole numbers, so ties are everywhere
    options = [
        {"top_k": i % 6, "top_p": (1.0, 0.9, 0.37)[i % 3], "min_p": (0.0, 0.2)[i % 2]}
        for i in range(200)
    ]
    rows = RowSampling.of([SamplingParams(**o) for o in options], CPU)
    mask = kept_tokens(logits, rows.top_k, rows.top_p, rows.min_p)
    for row, kept, option in zip(logits.tolist(), mask, options, strict=True):
        assert set(kept.nonzero()[:, 0].tolist()) == brute_force(row, **option)


def test_sample_takes_the_first_token_whose_cumulative_mass_exceeds_u():
    rows = RowSampling.of([SamplingParams()] * 5, CPU)
    # cumulative mass in index order: .15 .55 .60 .90 1
    u = torch.tensor([0.0, 0.149, 0.151, 0.61, 1 - 2**-52], dtype=torch.float64)
    tokens, logprobs = sample(LOGITS.expand(5, 5), rows, u)
    assert tokens.tolist() == [0, 0, 1, 3, 4]
    torch.testing.assert_close(logprobs, LOGITS[tokens])


def test_logprobs_are_of_the_full_vocabulary_at_the_sampling_temperature():
    rows = RowSampling.of([SamplingParams(temperature=0.5, top_k=1)], CPU)
    tokens, logprobs = sample(LOGITS[None], rows, torch.tensor([0.9], dtype=torch.float64))
    # squares of the probabilities: .16 of .16 + .09 + .0225 + .01 + .0025 = .285
    assert tokens.tolist() == [1]
    assert logprobs.exp().item() == pytest.approx(0.16 / 0.285)


def test_greedy_takes_the_lowest_index_of_a_tie_and_logprobs_at_temperature_1():
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0]])
    rows = RowSampling.of([SamplingParams(temperature=0)], CPU)
    tokens, logprobs = sample(logits, rows, torch.tensor([0.999], dtype=torch.float64))
    assert tokens.tolist() == [1]
    assert logprobs.item() == pytest.approx(logits.log_softmax(-1)[0, 1].item())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 1.5),
        ("max_tokens", 0),
        ("stop", ("a", "")),
    ],
    ids=str,
)
def test_impossible_sampling_is_named(name, value):
    with pytest.raises(ValueError, match=rf"request 3: sampling\.{name} = .*allowed is"):
        check_sampling(SamplingParams(**{name: value}), "request 3")
