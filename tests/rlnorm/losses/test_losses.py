"""Every loss against numbers a reader can redo, value and gradient."""

from math import exp, log

import pytest
import torch

from rlnorm.losses import LOSSES
from rlnorm.losses.ppo_ewma import ewma_update

INDEX = torch.tensor([0, 0, 1, 1])


def run(name, ratios, advantages, index=INDEX, logprob=-2.0, **options):
    """Values, gradients of their sum, and the result, for given ratios to the old policy."""
    logprobs = torch.full((len(ratios),), logprob, dtype=torch.float64, requires_grad=True)
    data = {
        "logprobs": logprobs,
        "old_logprobs": logprobs.detach() - torch.tensor(ratios, dtype=torch.float64).log(),
        "advantages": torch.tensor(advantages, dtype=torch.float64),
        "rollout_index": index,
    }
    from rlnorm.stages import data_of

    result = LOSSES[name](**{n: data[n] for n in data_of(LOSSES[name])[0]}, **options)
    (gradient,) = torch.autograd.grad(result.values.sum(), logprobs)
    return result.values.detach(), gradient, result


def close(got, want):
    want = torch.as_tensor(want, dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_ppo_clip_holds_back_what_it_should():
    # rho above, inside, below the bounds for A > 0, and below, above for A < 0
    values, gradient, result = run(
        "ppo_clip",
        [1.5, 1.1, 0.5, 0.5, 1.5],
        [2.0, 2.0, 2.0, -2.0, -2.0],
        index=torch.zeros(5, dtype=torch.long),
        clip_low=0.2,
        clip_high=0.3,
    )
    close(values, [-2.6, -2.2, -1.0, 1.6, 3.0])
    close(gradient, [0, -2.2, -1.0, 0, 3.0])
    assert result.clipped.tolist() == [True, False, False, True, False]


def test_dual_clip_and_ratio_cap():
    values, gradient, result = run("ppo_clip", [4.0, 2.0], [-1.0, -1.0], INDEX[:2], dual_clip=3.0)
    close(values, [3, 2])
    close(gradient, [0, 2])
    assert result.clipped_low.tolist() == [True, False]
    values, gradient, _ = run("ppo_clip", [4.0, 2.0], [-1.0, -1.0], INDEX[:2], ratio_cap=2.5)
    close(values, [2.5, 2])
    close(gradient, [0, 2])


def test_without_bounds_it_is_the_weighted_policy_gradient():
    values, gradient, _ = run("ppo_clip", [4.0], [-1.5], INDEX[:1], clip_low=None, clip_high=None)
    close(values, [6])
    close(gradient, [6])
    far, none, _ = run("ppo_clip", [exp(30)], [-1.0], INDEX[:1], clip_low=None, clip_high=None)
    close(far, [exp(20)])
    close(none, [0])


def test_gspo_has_one_ratio_per_rollout():
    # geometric means: sqrt(4 * 1) = 2, sqrt(0.5 * 0.5) = 0.5
    ratios = [4.0, 1.0, 0.5, 0.5]
    values, gradient, _ = run("gspo", ratios, [1, 1, 1, 1], clip_low=0.9, clip_high=9.0)
    close(values, [-2, -2, -0.5, -0.5])
    # each token moves both losses of its rollout by half
    close(gradient, [-2, -2, -0.5, -0.5])
    clipped, none, _ = run("gspo", ratios, [1, 1, -1, -1], clip_low=0.2, clip_high=0.3)
    close(clipped, [-1.3, -1.3, 0.8, 0.8])
    close(none, [0, 0, 0, 0])


@pytest.mark.parametrize("name", ["gspo", "gspo_token"])
def test_gspo_bounds_the_log_ratio_from_above(name):
    ratios = [exp(12.0)] * 2 + [exp(-12.0)] * 2
    values, gradient, _ = run(name, ratios, [-1, -1, -1, -1], clip_low=None, clip_high=None)
    close(values, [exp(10.0)] * 2 + [exp(-12.0)] * 2)
    close(gradient, [0, 0, exp(-12.0), exp(-12.0)])


def test_gspo_token_takes_each_tokens_own_gradient():
    values, gradient, _ = run(
        "gspo_token", [4.0, 1.0, 0.5, 0.5], [1, 3, 1, 1], clip_low=0.9, clip_high=9.0
    )
    close(values, [-2, -6, -0.5, -0.5])
    close(gradient, [-2, -6, -0.5, -0.5])
    sequence = run("gspo", [4.0, 1.0, 0.5, 0.5], [1, 3, 1, 1], clip_low=0.9, clip_high=9.0)[1]
    close(sequence, [-4, -4, -0.5, -0.5])


def test_cispo_clips_a_constant_weight():
    values, gradient, result = run(
        "cispo", [9.0, 2.0, 0.25], [1.0, -1.0, 1.0], INDEX[:3], is_cap=3.0, is_floor=0.5
    )
    close(values, [6, -4, 1])  # logprob -2: -w A lp
    close(gradient, [-3, 2, -0.5])
    assert result.clipped.tolist() == [True, False, True]


def test_gmpo_is_a_geometric_mean_of_clipped_ratios():
    ratios = [4.0, 1.0, 0.25, 1.0]
    up = log(2.0)
    values, gradient, _ = run(
        "gmpo", ratios, [1.0, 3.0, -1.0, -1.0], clip_low=up, clip_high=up, eps=0.0
    )
    # rollout 0: log ratios clipped to log 2, 0; mean advantage 2. rollout 1: to -log 2, 0; -1
    close(values, [-2 * 2**0.5] * 2 + [0.5**0.5] * 2)
    close(gradient, [0, -2 * 2**0.5, 0, 0.5**0.5])
    eps = run("gmpo", [1.0, 1.0], [1.0, 3.0], INDEX[:2], eps=2.0)[0]
    close(eps, [-1, -1])


def test_sapo_gates_by_sign():
    values, gradient, _ = run(
        "sapo", [1.0, 3.0, 3.0], [1.0, 1.0, -1.0], INDEX[:3], tau_pos=2.0, tau_neg=4.0
    )
    high, low = 1 / (1 + exp(-4.0)), 1 / (1 + exp(-8.0))
    close(values, [-1, -2 * high, low])
    # d sigmoid = s (1 - s); times tau * 4 / tau * rho
    close(gradient, [-1, -12 * high * (1 - high), 12 * low * (1 - low)])


def test_vespo_shapes_the_rollouts_product_of_ratios():
    options = {"k_pos": 2.0, "lambda_pos": 3.0, "k_neg": 1.0, "lambda_neg": 0.5}
    values, gradient, _ = run("vespo", [2.0, 1.5, 2.0, 0.25], [1, 1, -1, -1], **options)
    # w = 3 and 0.5: exp(3) 3^2 exp(-9); exp(.5) .5 exp(-.25)
    up, down = 9 * exp(-6.0), 0.5 * exp(0.25)
    close(values, [2 * up, 2 * up, -2 * down, -2 * down])
    close(gradient, [-up, -up, down, down])


def test_reinforce_has_no_ratio():
    values, gradient, _ = run("reinforce", [9.0], [3.0], INDEX[:1])
    close(values, [6])
    close(gradient, [-3])


def ewma(lp, prox, behaviour, advantages, **options):
    columns = [torch.tensor(c, dtype=torch.float64) for c in (prox, behaviour, advantages)]
    logprobs = torch.tensor(lp, dtype=torch.float64, requires_grad=True)
    values = LOSSES["ppo_ewma"](logprobs, *columns, **options).values
    return values.detach(), torch.autograd.grad(values.sum(), logprobs)[0]


def test_ppo_ewma_clips_against_one_policy_and_weighs_against_another():
    two, far = log(2.0), log(1000.0)
    values, gradient = ewma(
        [two, two, far], [0.0, 0.0, far], [0.0, 0.0, 0.0], [1.0, -1.0, 1.0], clip=0.5
    )
    # ratio 2 against a bound of 1.5; the weight 1000 is held at 100
    close(values, [-1.5, 2, -100])
    close(gradient, [0, 2, -100])


def test_ewma_is_debiased():
    average, weight = torch.tensor([1.0], dtype=torch.float64), 1.0
    average, weight = ewma_update(average, weight, torch.tensor([3.0]).double(), decay=0.5)
    # (0.5 * 1 * 1 + 3) / 1.5
    assert weight == 1.5
    close(average, [3.5 / 1.5])
    average, weight = ewma_update(average, weight, torch.tensor([0.0]).double(), decay=0.5)
    assert weight == 1.75
    close(average, [3.5 / 1.5 * 0.75 / 1.75])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ppo_clip", {"clip_low": -0.1}, "clip_low = -0.1, needs 0 or more"),
        ("ppo_clip", {"dual_clip": 1.0}, "dual_clip = 1.0, needs more than 1"),
        ("gspo", {"clip_high": -1.0}, "gspo: clip_high = -1.0"),
        ("cispo", {"is_cap": 1.0, "is_floor": 2.0}, "needs is_cap > 0 and not below it"),
        ("sapo", {"tau_neg": 0.0}, "tau_pos, tau_neg = 1.0, 0.0"),
    ],
)
def test_bounds_that_make_no_sense(name, options, message):
    with pytest.raises(ValueError, match=message):
        run(name, [1.0], [1.0], INDEX[:1], **options)


def test_ppo_ewma_bounds():
    with pytest.raises(ValueError, match=r"clip = 1.0, ratio_max = 100.0: need \(0, 1\)"):
        ewma([0.0], [0.0], [0.0], [1.0], clip=1.0)
    with pytest.raises(ValueError, match=r"decay = 1.0, needs a value in \[0, 1\)"):
        ewma_update(torch.zeros(1), 1.0, torch.zeros(1), decay=1.0)
