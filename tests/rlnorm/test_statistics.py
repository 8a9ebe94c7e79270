"""Paired comparison: arithmetic by hand, and error rates by seeded simulation."""

import math

import pytest
import torch

from rlnorm.statistics import (
    bootstrap_means,
    bootstrap_p_value,
    holm,
    judge,
    minimum_detectable_effect,
    paired_comparison,
    seed_p_value,
    student_quantile,
)

NAN = math.nan


def table(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def simulate(generator, *, seeds, problems, seed_sd, problem_sd, cell_sd, effect=0.0):
    """Differences of a crossed random-effects model."""
    by_seed = seed_sd * torch.randn(seeds, 1, generator=generator, dtype=torch.float64)
    by_problem = problem_sd * torch.randn(1, problems, generator=generator, dtype=torch.float64)
    cells = cell_sd * torch.randn(seeds, problems, generator=generator, dtype=torch.float64)
    return effect + by_seed + by_problem + cells


def test_the_difference_is_a_mean_of_seed_means_and_the_t_interval_is_students():
    # seed means 0.5, 0.25, 0.75: mean 0.5, std 0.25, error 0.25 / sqrt(3); t(0.975, 2) = 4.302653
    values = table([1.0, 1.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 0.5, 0.5])
    baseline = table([0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0])
    result = paired_comparison(values, baseline)
    error = 0.25 / math.sqrt(3)
    assert result.difference == pytest.approx(0.5)
    assert result.seed_differences == pytest.approx((0.5, 0.25, 0.75))
    assert result.seed_error == pytest.approx(error)
    assert result.seed_interval == pytest.approx((0.5 - 4.302653 * error, 0.5 + 4.302653 * error))
    # t = 2 sqrt(3) with 2 degrees of freedom: p = 1 - t / sqrt(2 + t^2) = 1 - sqrt(12 / 14)
    assert result.p_value == pytest.approx(1 - math.sqrt(12 / 14))
    assert (result.seeds, result.problems) == (3, 4)


def test_identical_runs_give_exactly_zero_and_no_verdict():
    values = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    result = paired_comparison(values, values.clone())
    assert (result.difference, result.interval, result.seed_interval) == (0.0, (0, 0), (0, 0))
    assert result.p_value == 1.0
    assert judge({"same": result})["same"].verdict == "not distinguishable"


@pytest.mark.parametrize(("shift", "word"), [(0.25, "better"), (-0.25, "worse")])
def test_a_constant_difference_is_found_exactly(shift, word):
    baseline = torch.arange(30, dtype=torch.float64).reshape(3, 10) / 64
    result = paired_comparison(baseline + shift, baseline)
    assert (result.difference, result.interval) == (shift, (shift, shift))
    judgement = judge({"shifted": result})["shifted"]
    assert (judgement.verdict, judgement.detectable) == (word, 0.0)


def test_pairing_removes_what_problems_and_seeds_do_to_both():
    # accuracies spread over 0..1, the difference is 0.05 in every cell but for noise of 0.01
    generator = torch.Generator().manual_seed(1)
    difficulty = torch.rand(1, 60, generator=generator, dtype=torch.float64)
    luck = 0.2 * torch.randn(4, 1, generator=generator, dtype=torch.float64)
    noise = 0.01 * torch.randn(4, 60, generator=generator, dtype=torch.float64)
    baseline = difficulty + luck
    paired = paired_comparison(baseline + 0.05 + noise, baseline)
    assert 0.04 < paired.interval[0] < paired.interval[1] < 0.06
    for broken in (baseline.roll(1, dims=0), baseline[:, torch.randperm(60, generator=generator)]):
        unpaired = paired_comparison(baseline + 0.05 + noise, broken)
        assert unpaired.interval[0] < 0 < unpaired.interval[1]


def test_missing_verdicts_leave_the_cell_out_of_both():
    values = table([1.0, NAN, 0.5], [1.0, 1.0, 1.0])
    baseline = table([0.5, 0.0, NAN], [0.5, 0.5, 0.5])
    result = paired_comparison(values, baseline)
    assert result.seed_differences == (0.5, 0.5)  # row 0 keeps its first cell only
    assert result.interval == (0.5, 0.5)
    assert result.problems == 3


def test_the_bootstrap_resamples_seeds_and_problems_once_for_the_whole_table():
    # differences by seed only: means are 0, 1/2, 1 with chance 1/4, 1/2, 1/4
    seeds_only = bootstrap_means(table([0.0] * 6, [1.0] * 6), draws=20_000)
    shares = [float((seeds_only == v).double().mean()) for v in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.015)
    # by problem only: variance of a mean of 4 draws from {0, 0, 0, 1} is (3/16) / 4, however
    # many seeds repeat it; resampling problems within each seed would divide it by the 5 seeds
    problems_only = bootstrap_means(table(*[[0.0, 0.0, 0.0, 1.0]] * 5), draws=20_000)
    assert float(problems_only.var()) == pytest.approx(3 / 64, rel=0.05)


def test_the_same_seed_repeats_the_draws_and_chunks_do_not_matter(monkeypatch):
    differences = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    first = bootstrap_means(differences, draws=300, seed=7)
    assert torch.equal(first, bootstrap_means(differences, draws=300, seed=7))
    assert not torch.equal(first, bootstrap_means(differences, draws=300, seed=8))
    monkeypatch.setattr("rlnorm.statistics.CHUNK_CELLS", 100 * 50)
    in_parts = bootstrap_means(differences, draws=300, seed=7)
    assert len(in_parts) == 300
    assert float(in_parts.mean()) == pytest.approx(float(first.mean()), abs=0.03)


def test_p_values_by_hand():
    means = torch.tensor([-1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    assert bootstrap_p_value(means) == pytest.approx(2 * (1 + 1) / 10)
    assert bootstrap_p_value(-means) == pytest.approx(2 * (1 + 1) / 10)
    assert bootstrap_p_value(torch.zeros(9)) == 1.0
    # one degree of freedom is Cauchy: P(|t| > 1) = 1/2
    assert seed_p_value(0.3, 0.3, 2) == pytest.approx(0.5)
    assert seed_p_value(-0.3, 0.3, 2) == pytest.approx(0.5)
    assert seed_p_value(0.3, 0.0, 2) == 0.0
    assert seed_p_value(0.3, math.inf, 1) == 1.0


def test_holm_on_a_worked_example():
    # sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, and the last may not fall below .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]


def test_holm_decides_the_words_over_the_whole_family():
    # 16 seeds of +-0.02 about the effect: alone each is significant, with Holm only the larger
    wave = 0.02 * table(*[[1.0, 1.0], [-1.0, -1.0]] * 8)
    zeros = torch.zeros(16, 2, dtype=torch.float64)
    weak = paired_comparison(zeros + 0.0115 + wave, zeros)
    strong = paired_comparison(zeros - 0.02 + wave, zeros)
    assert weak.p_value < 0.05
    assert judge({"weak": weak})["weak"].verdict == "better"
    family = judge({"weak": weak, "strong": strong, "none": paired_comparison(zeros, zeros)})
    words = {name: judgement.verdict for name, judgement in family.items()}
    assert words == {
        "weak": "not distinguishable",
        "strong": "worse",
        "none": "not distinguishable",
    }
    assert family["weak"].p_adjusted == pytest.approx(2 * weak.p_value)


def test_minimum_detectable_effect_by_hand():
    # t(.975, 2) = 4.302653 and t(.8, 2) = 1.060660
    assert minimum_detectable_effect(0.01, 3) == pytest.approx(0.01 * 5.363313, rel=1e-5)
    # with the bootstrap's error larger, z(.975) + z(.8) = 1.959964 + 0.841621
    wide = minimum_detectable_effect(0.0, 3, bootstrap_error=0.01)
    assert wide == pytest.approx(0.01 * 2.801585, rel=1e-5)
    # Holm's strictest step among 7: t(1 - .05 / 14, 2) = sqrt(2) x / sqrt(1 - x^2), x = 1 - .05 / 7
    x = 1 - 0.05 / 7
    strict = math.sqrt(2) * x / math.sqrt(1 - x * x)
    assert strict == pytest.approx(student_quantile(1 - 0.05 / 14, 2))
    result = paired_comparison(table([0.0], [0.01], [0.02]), torch.zeros(3, 1).double())
    seven = judge({i: result for i in range(7)})[0]
    assert seven.detectable == pytest.approx((strict + 1.060660) * 0.01 / math.sqrt(3), rel=1e-5)


def test_one_seed_claims_nothing():
    result = paired_comparison(table([1.0] * 50), table([0.0] * 50))
    judgement = judge({"only": result})["only"]
    assert result.interval == (1.0, 1.0)
    assert result.seed_interval is None
    assert (judgement.verdict, judgement.detectable) == ("not distinguishable", math.inf)


REGIMES = {
    "seeds vary": {"seed_sd": 0.02, "problem_sd": 0.0, "cell_sd": 0.02},
    "problems vary": {"seed_sd": 0.0, "problem_sd": 0.2, "cell_sd": 0.05},
    "cells vary": {"seed_sd": 0.0, "problem_sd": 0.0, "cell_sd": 0.2},
}


@pytest.mark.parametrize("regime", REGIMES)
def test_a_true_zero_is_called_different_at_most_as_often_as_promised(regime):
    """600 experiments of 3 seeds x 40 problems: 5 % wrong calls allow at most 46 (0.1 % tail)."""
    generator, calls = torch.Generator().manual_seed(3), 0
    for _ in range(600):
        differences = simulate(generator, seeds=3, problems=40, **REGIMES[regime])
        result = paired_comparison(differences, torch.zeros_like(differences), draws=400)
        calls += judge({"null": result})["null"].verdict != "not distinguishable"
    assert calls <= 46


def test_the_intervals_cover_the_truth_where_each_is_said_to():
    """300 experiments of 8 seeds x 40 problems, both levels varying; 0.90 is 4 errors below."""
    generator, truth, covered = torch.Generator().manual_seed(4), 0.1, [0, 0]
    for _ in range(300):
        differences = simulate(
            generator, seeds=8, problems=40, seed_sd=0.05, problem_sd=0.2, cell_sd=0.2, effect=truth
        )
        result = paired_comparison(differences, torch.zeros_like(differences), draws=400)
        for index, (low, high) in enumerate((result.interval, result.seed_interval)):
            covered[index] += low <= truth <= high
    bootstrap, students = (count / 300 for count in covered)
    assert 0.90 <= bootstrap <= 0.99
    assert students < 0.90  # takes the problems as given, as the docstring says


def test_with_three_seeds_the_bootstrap_alone_would_call_seed_noise_an_effect():
    generator, alone = torch.Generator().manual_seed(5), 0
    for _ in range(300):
        differences = simulate(generator, seeds=3, problems=40, **REGIMES["seeds vary"])
        alone += bootstrap_p_value(bootstrap_means(differences, draws=400)) < 0.05
    assert alone / 300 > 0.15


@pytest.mark.parametrize(
    ("values", "baseline", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), r"shape \(2, 3\) and \(2, 4\)"),
        (torch.zeros(0, 3), torch.zeros(0, 3), "not empty"),
        (table([math.inf]), table([0.0]), "infinite"),
        (table([NAN, 1.0], [1.0, 1.0]), table([0.0, NAN], [0.0, 0.0]), r"rows \[0\]"),
    ],
)
def test_tables_that_do_not_fit_are_refused(values, baseline, message):
    with pytest.raises(ValueError, match=message):
        paired_comparison(values, baseline)


@pytest.mark.parametrize("options", [{"level": 1.0}, {"level": 0.0}, {"draws": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        paired_comparison(torch.zeros(2, 2), torch.zeros(2, 2), **options)
