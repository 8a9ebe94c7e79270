"""Named algorithms: resolution, the driver's part, and a loss that adds up over any split."""

import pytest
import torch

from rlnorm.algorithms import resolve_algorithm
from rlnorm.named_algorithms import ALGORITHMS
from rlnorm.types import LossDenominators

NAN = float("nan")
N, LENGTHS = 6, torch.tensor([3, 1, 4, 2, 0, 5])
INDEX = torch.arange(N).repeat_interleave(LENGTHS)
COUNTS = LossDenominators(tokens=15, rollouts=5, horizon=8)
LEARNER_KEYS = (
    "logprobs", "old_logprobs", "sampler_logprobs", "ref_logprobs", "proxy_logprobs",
    "proximal_logprobs", "advantages", "entropy",
)  # fmt: skip


def learner_data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    t = len(INDEX)

    def draw():
        return -2 + torch.randn(t, generator=generator, dtype=torch.float64) * 0.3

    data = {name: draw() for name in LEARNER_KEYS}
    data["advantages"] = torch.randn(N, generator=generator, dtype=torch.float64)[INDEX]
    data["entropy"] = data["entropy"].abs()
    data["rollout_index"] = INDEX
    data["correction"] = torch.rand(t, generator=generator, dtype=torch.float64) + 0.5
    return data


def loss_in_parts(algorithm, data, parts):
    leaf = data["logprobs"].clone().requires_grad_()
    total, metrics = 0.0, {}
    for rollouts in parts:
        rows = torch.isin(INDEX, torch.tensor(rollouts))
        part = {name: column[rows] for name, column in data.items() if name != "logprobs"}
        part["logprobs"] = leaf[rows]
        part["rollout_index"] = torch.unique(INDEX[rows], return_inverse=True)[1]
        loss, extra = algorithm.loss(part, COUNTS)
        total = total + loss
        metrics = {key: metrics.get(key, 0.0) + value for key, value in extra.items()}
    return total, torch.autograd.grad(total, leaf)[0], metrics


SOME = [{"name": "kl", "coef": 0.1}, {"name": "entropy", "coef": 0.1}]


@pytest.mark.parametrize("name", [n for n in ALGORITHMS if "@" not in n])
def test_loss_gradient_and_metrics_add_up_over_any_split(name):
    algorithm = resolve_algorithm(name)
    if not algorithm.regularizers:
        algorithm = resolve_algorithm(name, {"regularizers": SOME})
    data = learner_data()
    selected = algorithm.select(data)
    if selected is not None:
        data["selected"] = selected
    whole, gradient, metrics = loss_in_parts(algorithm, data, [range(N)])
    split, same_gradient, same_metrics = loss_in_parts(algorithm, data, [[5], [0, 2], [1, 3], [4]])
    torch.testing.assert_close(split, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(same_gradient, gradient, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(same_metrics, metrics, rtol=1e-12, atol=1e-12)
    assert gradient.abs().sum() > 0


def test_the_order_of_loss_correction_and_regularizers():
    spec = {"loss": "reinforce", "aggregate": "token-sum", "regularizers": SOME}
    data = {
        "logprobs": torch.tensor([-1.0, -2.0], dtype=torch.float64),
        "ref_logprobs": torch.tensor([-1.0, -2.0], dtype=torch.float64),
        "entropy": torch.tensor([3.0, 5.0], dtype=torch.float64),
        "advantages": torch.tensor([2.0, 1.0], dtype=torch.float64),
        "correction": torch.tensor([0.5, 0.0], dtype=torch.float64),
        "rollout_index": torch.tensor([0, 0]),
    }
    counts = LossDenominators(tokens=4, rollouts=2, horizon=8)
    loss, metrics = resolve_algorithm("grpo", spec).loss(data, counts)
    # policy: 2 * 1 * 0.5 + 0; entropy: a token mean although the aggregate is a sum
    assert loss.item() == pytest.approx(1.0 - 0.1 * 8 / 4)
    assert metrics["policy_loss"].item() == pytest.approx(1.0)
    assert metrics["entropy_loss"].item() == pytest.approx(-0.2)
    assert metrics["entropy"].item() == pytest.approx(2.0)
    assert metrics["correction_dropped_frac"].item() == pytest.approx(0.25)
    data["logprobs"][1] = -torch.inf
    dropped, _ = resolve_algorithm("grpo", {**spec, "regularizers": []}).loss(data, counts)
    assert dropped.item() == pytest.approx(1.0)


def driver_data(rewards, groups, **more):
    table = torch.tensor(rewards, dtype=torch.float64)
    return {"rewards": table[:, None], "group_index": torch.tensor(groups), **more}


def test_which_rollouts_train():
    data = driver_data([1.0, 0.0, NAN, 5.0, 2.0, 2.0], [0, 0, 0, 1, 2, 2])
    grpo = resolve_algorithm("grpo").advantages(data)
    # the masked and the lone one do not; constant groups do, with advantage 0
    assert grpo.keep.tolist() == [True, True, False, False, True, True]
    assert grpo.values.nonzero()[:, 0].tolist() == [0, 1]
    pivot = resolve_algorithm("mc_grpo").advantages(data)
    assert pivot.keep.tolist() == [True, False, False, False, False, True]


def test_token_advantages_by_rollout_turn_and_token():
    rollout, turn = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    grpo = resolve_algorithm("dr_grpo")
    got = grpo.advantages(driver_data([1.0, 0.0], [0, 0]))
    assert got.per_token(rollout, turn).tolist() == [0.5, 0.5, -0.5]
    mapo = resolve_algorithm("mapo", {"estimator": {"alpha": 1.0, "beta": 0.0, "eps": 0.0}})
    turns = torch.tensor([[1.0, 2.0], [0.0, NAN]], dtype=torch.float64)
    got = mapo.advantages({"turn_rewards": turns, "group_index": torch.tensor([0, 0])})
    assert got.per_token(rollout, turn).tolist() == [1, 0, -1]
    with pytest.raises(ValueError, match=r"turn_index has 2, needs a turn in \[0, 1\]"):
        got.per_token(rollout, turn + 1)
    plus = resolve_algorithm("reinforce_pp")
    got = plus.advantages(driver_data([1.0, 0.0], [0, 1], rollout_index=rollout))
    tokens = got.per_token(rollout, turn)
    assert tokens.shape == (3,)
    assert tokens[0] == tokens[1] > 0 > tokens[2]
    # as many tokens as rollouts, one of them without a token: still one advantage a token
    masked = plus.advantages(driver_data([1.0, NAN, 0.0], [0, 1, 2], rollout_index=2 * rollout))
    assert masked.per_token(2 * rollout, turn).tolist() == tokens.tolist()


def test_shaping_runs_before_and_modulators_after():
    slots = {
        "shaping": {"name": "overlong", "max_length": 10, "cache": 5},
        "estimator": "reinforce",
        "modulators": [{"name": "clip", "low": -0.25, "high": 1.0}, "drop_truncated"],
    }
    data = driver_data(
        [1.0, 0.0, 1.0],
        [0, 0, 0],
        lengths=torch.tensor([10, 1, 1]),
        truncated=torch.tensor([True, False, False]),
        rollout_index=torch.tensor([0, 1, 2]),
    )
    result = resolve_algorithm("grpo", slots).advantages(data)
    # rewards 0 0 1: -1/3 -1/3 2/3, clipped, the first dropped
    assert result.values.tolist() == pytest.approx([0, -0.25, 2 / 3])
    assert result.keep.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("modulator", "factors"),
    [("drop_truncated", [1, 1, 1]), ({"name": "ace", "modulation": "relu"}, [3, 3, 1])],
)
def test_modulators_know_advantages_of_tokens_among_as_many_rollouts(modulator, factors):
    # rollout 1 is truncated and has no trained token, so there are as many tokens as rollouts
    rollout, turn = torch.tensor([0, 0, 2]), torch.tensor([0, 1, 0])
    data = driver_data(
        [0.0, 0.5, 1.0],
        [0, 1, 2],
        rollout_index=rollout,
        truncated=torch.tensor([False, True, False]),
        old_logprobs=torch.tensor([0.0, 0.0, 0.0], dtype=torch.float64),
        ref_logprobs=torch.tensor([-1.0, -1.0, -7.0], dtype=torch.float64),
    )
    plain = resolve_algorithm("reinforce_pp")
    tokens = plain.advantages(data).per_token(rollout, turn)
    assert tokens[0] == tokens[1] < 0 < tokens[2]
    changed = resolve_algorithm("reinforce_pp", {"modulators": [modulator]})
    got = changed.advantages(data).per_token(rollout, turn)
    torch.testing.assert_close(got, tokens * torch.tensor(factors, dtype=torch.float64))


def test_overrides_keep_or_replace_options():
    base = resolve_algorithm("dapo", {"loss": {"clip_high": 0.5}}).describe()
    assert base["loss"]["clip_high"] == 0.5
    assert base["loss"]["clip_low"] == 0.2
    assert base["sample_plan"]["resample"] is True
    other = resolve_algorithm("dapo", {"loss": "gspo", "sample_plan": {"max_rounds": 3}}).describe()
    assert other["loss"]["clip_high"] == 4e-4
    assert other["sample_plan"] == {**base["sample_plan"], "max_rounds": 3}


def test_what_scoring_and_training_must_supply():
    lp_reg = resolve_algorithm("lp_reg", {"regularizers": [{"name": "lp_reg", "kappa": 0.1}]})
    assert lp_reg.needs == {"old_logprobs", "proxy_logprobs"}
    assert lp_reg.kappa == 0.1
    entropy = resolve_algorithm("reinforce", {"regularizers": ["entropy"]})
    assert entropy.needs == frozenset()
    assert entropy.training_needs == {"entropy"}
    assert resolve_algorithm("top_entropy").needs == {"entropy", "old_logprobs"}
    corrected = resolve_algorithm("reinforce", {"correction": "truncated"})
    assert corrected.needs == {"old_logprobs"}
    assert resolve_algorithm("ppo_ewma").needs == {"proximal_logprobs"}
    assert resolve_algorithm("grpo").kappa is None


def test_corrections_multiply():
    pair = [{"name": "truncated", "cap": 3.0}, {"name": "rejected", "high": 2.0}]
    algorithm = resolve_algorithm("grpo", {"correction": pair})
    old = torch.tensor([4.0, 1.5, 1.0], dtype=torch.float64).log()
    weights = algorithm.correction_weights(old, torch.zeros(3).double(), torch.tensor([0, 0, 1]))
    assert weights.tolist() == pytest.approx([0, 1.5, 1])


def test_an_adaptive_entropy_coefficient_survives_a_checkpoint():
    term = {"name": "adaptive_entropy", "target": 1.0, "delta": 0.25}
    algorithm = resolve_algorithm("grpo", {"regularizers": [term]})
    algorithm.after_step({"entropy": 0.5})
    resumed = resolve_algorithm("grpo", {"regularizers": [term]})
    resumed.load_state_dict(algorithm.state_dict())
    data = {**learner_data(), "entropy": torch.ones(len(INDEX), dtype=torch.float64)}
    for one in (algorithm, resumed):
        metrics = one.loss(data, COUNTS)[1]
        assert metrics["adaptive_entropy_loss"].item() == pytest.approx(-0.25)


@pytest.mark.parametrize(
    ("name", "slots", "message"),
    [
        ("grop", None, r"algorithm = 'grop': choose from .*did you mean 'grpo'"),
        ("grpo", {"estimtor": 1}, r"estimtor = 1: not a slot .*did you mean 'estimator'"),
        ("grpo", {"estimator": {"epss": 1}}, r"estimator\.epss = 1: grpo takes"),
        ("grpo", {"sample_plan": {"max_rounds": "8"}}, r"sample_plan\.max_rounds = '8' \(str\)"),
        ("grpo", {"regularizers": ["lp_reg", "kl_cov"]}, "at most one may"),
        ("lp_reg", {"regularizers": {"name": "lp_reg", "roh": 1}}, r"\[0\]\.roh = 1: lp_reg takes"),
        ("grpo", {"regularizers": ["opsm"]}, r"regularizers\[0\]\.threshold: opsm needs a value"),
        ("grpo", {"correction": [3]}, r"correction\[0\] = 3: needs one of"),
    ],
)
def test_errors_come_before_anything_starts(name, slots, message):
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=message):
            resolve_algorithm(name, slots)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_an_estimator_that_returns_nan_is_named(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("def bad(rewards):\n    return rewards[:, 0] / 0 * 0\n")
    algorithm = resolve_algorithm("grpo", {"estimator": f"{file}:bad"})
    with pytest.raises(ValueError, match="bad: returned 2 advantages that are not finite"):
        algorithm.advantages(driver_data([1.0, 0.0], [0, 0]))
