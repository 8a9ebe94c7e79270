"""Adapters of the advantage methods: golden inputs and params to estimator calls."""

from typing import Any

import torch
from golden_common import (
    NAN_REWARD,
    ROUNDING,
    SINGLETON,
    Case,
    Result,
    consecutive,
    estimated,
    labels,
    layout,
    numbers,
    with_departures,
)
from torch import Tensor

from rlnorm.advantages import ESTIMATORS, Advantages
from rlnorm.advantages.bnpo import fit_beta
from rlnorm.advantages.mapo import turn_returns
from rlnorm.advantages.mapo_certainty import certainty_weight
from rlnorm.advantages.mc_grpo import median_and_mad
from rlnorm.advantages.shaping import overlong_penalty
from rlnorm.groups import group_mean, make_groups
from rlnorm.modulators.ace import ace as modulate
from rlnorm.modulators.ace import confidence_shift
from rlnorm.sampling import informative_groups


def _rows(case: Case, name: str, **options: Any) -> Result:
    """An outcome estimator in verl's layout: token rewards in, advantage times mask out."""
    frame = layout(case)
    rewards = case.tensor("token_level_rewards").sum(dim=1)
    groups = labels(case.inputs["index"])

    def call(rows: Tensor) -> Tensor:
        lengths = {"lengths": frame.lengths[rows]} if name == "opo" else {}
        values = estimated(name, rewards[rows, None], groups[rows], **lengths, **options)
        return values[:, None] * frame.mask[rows]

    got, want, reasons = with_departures(
        call,
        case.expected["advantages"],
        rewards,
        groups,
        coupled=name == "gpg",
        tolerance=case.tolerance,
    )
    return Result(
        {"advantages": got, "returns": got}, {"advantages": want, "returns": want}, reasons
    )


def _trl(case: Case, name: str, **options: Any) -> Result:
    """An estimator in TRL's layout: reward columns of consecutive groups in, rows out."""
    rewards = case.tensor("rewards_per_func")
    groups = consecutive(len(rewards), case.inputs["group_size"])
    weights = case.params["reward_weights"]
    got = estimated(name, rewards, groups, weights=weights, **options)
    return Result({"advantages": got}, {"advantages": case.expected["advantages"]})


def grpo(case: Case) -> Result:
    if "rewards_per_func" in case.inputs:
        options = {"eps": case.params["eps"], "scale": case.params["scale_rewards"]}
        return _trl(case, "grpo", missing="skip", **options)
    scale = "group" if case.params["norm_adv_by_std"] else "none"
    options = {"scale": scale}
    if "epsilon" in case.params:
        options["eps"] = case.params["epsilon"]
    result = _rows(case, "grpo", **options)
    if result.reasons == [SINGLETON]:
        switched = _rows(case, "grpo", **options, singleton="reward").got["advantages"]
        result.got["as_verl"] = switched
        result.want["as_verl"] = case.expected["advantages"]
    return result


def rloo(case: Case) -> Result:
    return _rows(case, "rloo")


def opo(case: Case) -> Result:
    return _rows(case, "opo")


def gpg(case: Case) -> Result:
    return _rows(case, "gpg", f_norm=case.params["f_norm"])


def pass_at_k(case: Case) -> Result:
    options = {"norm_by_std": case.params["norm_adv_by_std"]}
    if "epsilon" in case.params:
        options["eps"] = case.params["epsilon"]
    if "raises" not in case.expected:
        return _rows(case, "pass_at_k", **options)
    case.expected["advantages"] = torch.zeros(case.tensor("response_mask").shape)
    result = _rows(case, "pass_at_k", **options)
    alone = labels(case.inputs["index"]).bincount()[labels(case.inputs["index"])] == 1
    got = {"alone": result.got["advantages"][alone]}
    return Result(got, {"alone": torch.zeros_like(got["alone"])}, [SINGLETON])


def gdpo(case: Case) -> Result:
    params, inputs = case.params, case.inputs
    options: dict[str, Any] = {"eps": params["group_eps"]}
    if "rewards_per_func" in inputs:
        rewards = case.tensor("rewards_per_func")
        options["batch_eps"] = params["batch_eps"]
        if "replaced by 0" in params["nan"]:
            options["missing"] = "zero"
            if rewards.shape[1] == 1:
                filled = {"eps": params["group_eps"], "missing": "skip"}
                case.inputs["rewards_per_func"] = rewards.nan_to_num(0.0)
                return _trl(case, "grpo", **filled)
        result = _trl(case, "gdpo", **options)
        if "pre_batch_norm" in case.expected:
            before = _trl(case, "gdpo", **options, batch_norm_weighting="none")
            result.got["pre_batch_norm"] = before.got["advantages"]
            result.want["pre_batch_norm"] = case.expected["pre_batch_norm"]
        return result
    frame, groups = layout(case), labels(inputs["index"])
    if "components" in inputs:
        columns = [numbers(inputs["components"][name]) for name in inputs["component_order"]]
    else:
        columns = [case.tensor("correctness"), case.tensor("format")]
    if not params.get("norm_by_std", True):
        options = {"base": "reinforce"}
    table, weights = torch.stack(columns, dim=1), params.get("weights")

    def call(rows: Tensor, **more: Any) -> Tensor:
        values = estimated(
            "gdpo",
            table[rows],
            groups[rows],
            frame.lengths[rows],
            weights=weights,
            batch_norm_weighting="token",
            batch_eps=1e-8,
            **options,
            **more,
        )
        return values[:, None] * frame.mask[rows]

    rows = torch.arange(len(table))
    want, reasons = numbers(case.expected["advantages"]), []
    if table.isnan().any():
        return Result({"finite": call(rows).isfinite()}, {"finite": frame.mask >= 0}, [NAN_REWARD])
    more = {}
    if (groups.bincount()[groups] == 1).any() and options.get("base") is None:
        more, reasons = {"singleton": "reward"}, [SINGLETON]
    got = call(rows, **more)
    return Result({"advantages": got}, {"advantages": want}, reasons)


def bnpo(case: Case) -> Result:
    groups, frame = labels(case.inputs["index"]), layout(case)
    if "components" in case.params:
        columns = [case.tensor(name) for name in case.params["components"]]
        got = {
            f"{n}_advantages": c for n, c in zip(case.params["components"], columns, strict=True)
        }
        got = {key: frame.spread(estimated("bnpo", c[:, None], groups)) for key, c in got.items()}
        got["advantages"] = frame.spread(estimated("bnpo", torch.stack(columns, dim=1), groups))
        return _bnpo_defects(case, got, dict(case.expected), dict(zip(got, columns, strict=False)))
    low, high = case.params["min_value"], case.params["max_value"]
    options = {"min_value": low, "max_value": high, "weight_max": case.params["weight_clamp"][1]}
    rewards = case.tensor("sequence_rewards")
    if (rewards < low).any() or (rewards > high).any():
        try:
            estimated("bnpo", rewards[:, None], groups, **options)
        except ValueError as error:
            told = "needs a value in [min_value, max_value]" in str(error)
            return Result({"told": told}, {"told": True}, ["a reward out of range is a ValueError"])
        return Result({}, case.expected)
    got = {"advantages": frame.spread(estimated("bnpo", rewards[:, None], groups, **options))}
    mapped = (rewards - low) / (high - low)
    means = group_mean(mapped, make_groups(groups))
    fit = fit_beta(means.where(groups.bincount() > 1, torch.nan))
    stats = {"p_mean": fit.mean, "p_var_unbiased": fit.variance, "alpha": fit.alpha}
    got["stats"] = {"group_means": means, "beta": fit.beta, "a": fit.a, "b": fit.b, **stats}
    return _bnpo_defects(case, got, dict(case.expected), {"advantages": rewards}, mapped=mapped)


def _bnpo_defects(
    case: Case,
    got: dict[str, Any],
    want: dict[str, Any],
    columns: dict[str, Tensor],
    mapped: Tensor | None = None,
) -> Result:
    """Replace what the official code gets wrong by what is recommended there."""
    groups, frame, reasons = labels(case.inputs["index"]), layout(case), []
    values = {name: column if mapped is None else mapped for name, column in columns.items()}
    broken = want.pop("raises", None) is not None
    missing = torch.stack(list(values.values())).isnan().any(dim=0)
    alone = groups.bincount()[groups] == 1
    if missing.any() or alone.any():
        # without those rows nothing may change for the others, and those get 0
        rows = (~missing & ~alone).nonzero()[:, 0]
        for name, value in values.items():
            rest = torch.zeros(len(groups), dtype=torch.float64)
            if rows.numel():
                rest[rows] = estimated("bnpo", value[rows, None], groups[rows])
            want[name] = frame.spread(rest)
        return Result(
            got,
            {name: want[name] for name in columns},
            [NAN_REWARD if missing.any() else SINGLETON],
        )
    for name, value in values.items():
        if broken or not numbers(want[name]).isfinite().all():
            want[name] = frame.spread(estimated("reinforce", value[:, None], groups))
            reasons = ["group means that do not vary give REINFORCE with a baseline, not NaN"]
    if reasons:
        want["advantages"] = torch.stack([numbers(want[name]) for name in columns]).mean(dim=0)
    if "stats" in want:
        # the fit says nothing when there is one prompt, or when it is the fit that fails
        said = {"group_means", "alpha", "beta"} if len(groups.unique()) == 1 else set(want["stats"])
        said -= {"a", "b", "alpha", "beta"} if reasons else set()
        want["stats"] = {key: value for key, value in want["stats"].items() if key in said}
    return Result(got, want, reasons)


def mc_grpo(case: Case) -> Result:
    rewards = case.tensor("rewards")
    groups = consecutive(len(rewards), case.inputs["rollouts_per_prompt"])
    options = {
        "eps": case.params["mad_eps"],
        "zero_compensation": case.params["zero_compensation"],
    }
    result = ESTIMATORS["mc_grpo"](rewards[:, None], groups, **options)
    if rewards.isnan().any():
        rows = (~rewards.isnan()).nonzero()[:, 0]
        want = torch.zeros_like(rewards)
        want[rows] = ESTIMATORS["mc_grpo"](rewards[rows, None], groups[rows], **options).values
        return Result({"advantages": result.values}, {"advantages": want}, [NAN_REWARD])
    median, mad = median_and_mad(rewards, make_groups(groups))
    kept = result.keep.nonzero()[:, 0]
    official = torch.tensor(case.expected["kept_indices"])
    active = result.values != 0
    # the pivot is one of the rows equal to the median: they differ in nothing but their place
    got = {
        "advantages_all": result.values,
        "median": median,
        "mad_plus_eps": mad + options["eps"],
        "kept": result.values[kept][result.values[kept] != 0],
        "kept_count": len(kept),
        "kept_active": kept[active[kept]],
        "pivots": result.values[~result.keep],
        "pivots_per_group": groups[~result.keep],
    }
    want = {key: case.expected[key] for key in ("advantages_all", "median", "mad_plus_eps")}
    kept_values = numbers(case.expected["advantages_kept"])
    dropped = torch.tensor(case.expected["pivot_mask"])
    want |= {
        "kept": kept_values[kept_values != 0],
        "kept_count": len(official),
        "kept_active": official[active[official]],
        "pivots": numbers(case.expected["advantages_all"])[dropped],
        "pivots_per_group": groups[dropped],
    }
    return Result(got, want)


def mapo_turn(case: Case) -> Result:
    valid = case.tensor("turn_valid").bool()
    rewards = case.tensor("turn_rewards").where(valid, torch.nan)
    groups, params = torch.tensor(case.inputs["groups"]), dict(case.params)

    def call(**mixture: float) -> Tensor:
        return estimated("mapo", rewards, groups, **{**params, **mixture})

    got = {
        "returns": turn_returns(rewards, gamma=params["gamma"]).nan_to_num(0.0),
        "turn_advantage": call(alpha=1.0, beta=0.0),
        "batch_advantage": call(alpha=0.0, beta=1.0),
        "advantage": call(),
    }
    return Result(got, case.expected)


def mapo_certainty(case: Case) -> Result:
    rewards, groups = case.tensor("sequence_rewards"), labels(case.inputs["index"])
    if (rewards < 0).any() or (rewards > 1).any():
        try:
            estimated("mapo_certainty", rewards[:, None], groups, **case.params)
        except ValueError as error:
            return Result(
                {"told": "needs [0, 1]" in str(error)},
                {"told": True},
                ["a reward outside [0, 1] is a ValueError"],
            )

    def call(rows: Tensor) -> Tensor:
        values = estimated("mapo_certainty", rewards[rows, None], groups[rows], **case.params)
        return values[:, None] * layout(case).mask[rows]

    got, want, reasons = with_departures(call, case.expected["advantages"], rewards, groups)
    made = make_groups(groups)
    weight = certainty_weight(rewards, made)[made.index]
    expected = {"advantages": want}
    if not rewards.isnan().any():
        expected["weight_std"] = case.expected["weight_std"]
    return Result({"advantages": got, "weight_std": weight}, expected, reasons)


def ace(case: Case) -> Result:
    rewards, groups = case.tensor("rewards"), torch.tensor(case.inputs["groups"])
    frame, params = layout(case, "mask"), case.params
    scale = {"grpo": "group", "mean": "none"}[params["base"]]
    base = estimated("grpo", rewards[:, None], groups, eps=params["grpo_eps"], scale=scale)
    ratio = frame.pack(case.tensor("log_ratio_theta_ref_tokens"))
    tokens = (frame.rollout_index, ratio, torch.zeros_like(ratio))
    options = {"length_normalise": params["length_normalised"]}
    shift = confidence_shift(*tokens, len(rewards), **options)
    options |= {key: params[key] for key in ("alpha", "modulation", "cap")}
    every = torch.ones_like(groups, dtype=torch.bool)
    values = modulate(Advantages(base, every), *tokens, **options).values
    ones = modulate(Advantages(torch.full_like(base, -1.0), every), *tokens, **options)
    multiplier = ones.values.neg()
    got = {
        "base_advantages": base,
        "confidence_shift": shift,
        "multiplier": multiplier.where(base < 0, 1.0),
        "advantages": values,
    }
    return Result(got, case.expected)


def dapo_overlong(case: Case) -> Result:
    length = torch.tensor([case.inputs["length"]])
    options = {"max_length": case.params["L_max"], "cache": case.params["L_cache"]}
    scaled = {"penalty_factor": case.params["penalty_factor"]}
    got = {
        "paper_reward": overlong_penalty(length, **options)[0],
        "verl_reward": overlong_penalty(length, **options, **scaled)[0],
    }
    return Result(got, case.expected)


def dapo_dynamic_sampling(case: Case) -> Result:
    metric = case.inputs["group_metric"]
    groups = torch.tensor([g for g, row in enumerate(metric) for _ in row])
    rewards = numbers([value for row in metric for value in row])[:, None]
    kept = informative_groups(rewards, groups, keep_singletons=True).nonzero()[:, 0]
    constant = {g for g, row in enumerate(metric) if len(row) > 1 and len(set(row)) == 1}
    official = [g for g in case.expected["kept"] if g not in constant]
    reasons = [ROUNDING] if len(official) < len(case.expected["kept"]) else []
    return Result({"kept": kept}, {"kept": official}, reasons)


ADVANTAGES = {
    "ace": ace,
    "bnpo": bnpo,
    "dapo_dynamic_sampling": dapo_dynamic_sampling,
    "dapo_overlong": dapo_overlong,
    "dr_grpo": grpo,
    "gdpo": gdpo,
    "gpg": gpg,
    "grpo": grpo,
    "mapo_certainty": mapo_certainty,
    "mapo_turn": mapo_turn,
    "mc_grpo": mc_grpo,
    "opo": opo,
    "pass_at_k_adv": pass_at_k,
    "rloo": rloo,
}
