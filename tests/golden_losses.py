"""Adapters of the losses, regularizers, aggregations and corrections."""

from typing import Any

import torch
from golden_common import MASKED_ROWS, Case, Layout, Result, layout, numbers
from torch import Tensor

from rlnorm.algorithms import Algorithm, resolve_algorithm
from rlnorm.correction import CORRECTIONS
from rlnorm.kernels import MinP, token_stats
from rlnorm.losses import AGGREGATES
from rlnorm.losses.ppo_ewma import ewma_update
from rlnorm.losses.ppo_ewma import ppo_ewma as ewma_loss
from rlnorm.regularizers.kl import kl_estimate
from rlnorm.stages import resolve_stage
from rlnorm.types import LossDenominators


def _denominators(frame: Layout, horizon: int | None = None) -> LossDenominators:
    return LossDenominators(
        tokens=int(frame.mask.sum()),
        rollouts=int(frame.mask.any(dim=1).sum()),
        horizon=frame.mask.shape[1] if horizon is None else horizon,
    )


def _run(
    case: Case, algorithm: Algorithm, frame: Layout, horizon: int | None = None, **extra: Tensor
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Loss, gradient in padded layout, and metrics of all rows as one microbatch."""
    logprobs = case.tensor("log_prob").requires_grad_()
    advantages = case.tensor("advantages")
    if advantages.dim() == 1:
        advantages = frame.spread(advantages)
    old = frame.pack(case.tensor("old_log_prob"))
    data = {
        "logprobs": frame.pack(logprobs),
        "old_logprobs": old,
        "sampler_logprobs": old,
        "advantages": frame.pack(advantages),
        "rollout_index": frame.rollout_index,
        **{name: frame.pack(column) for name, column in extra.items()},
    }
    selected = algorithm.select(data)
    if selected is not None:
        data["selected"] = selected
    loss, metrics = algorithm.loss(data, _denominators(frame, horizon))
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return {"loss": loss, "grad_log_prob": gradient}, metrics


def _verl(case: Case, loss: Any, **more: Any) -> Result:
    """A policy loss of verl: its metrics are clip fractions and a mean log-ratio."""
    frame = layout(case)
    mode = more.pop("aggregate", case.params["loss_agg_mode"])
    algorithm = resolve_algorithm("grpo", {"loss": loss, "aggregate": mode, **more})
    weights = (
        {"correction": case.tensor("rollout_is_weights")}
        if ("rollout_is_weights" in case.inputs)
        else {}
    )
    got, metrics = _run(case, algorithm, frame, **weights)
    selects = algorithm.selector is not None
    absolute = selects and "ppo_kl_coef" in case.params
    clipped = "selected_frac" if selects else "clip_frac"
    got["metrics"] = {
        "actor/ppo_kl": metrics["abs_log_ratio" if absolute else "approx_kl"],
        "actor/pg_clipfrac": metrics.get(clipped, torch.tensor(0.0)),
        "actor/pg_clipfrac_lower": metrics.get("clip_frac_low", torch.tensor(0.0)),
    }
    return Result(got, dict(case.expected))


def _widths(case: Case, name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **{k: case.params[k] for k in ("clip_low", "clip_high")}, **more}


def ppo_clip_loss(case: Case) -> Result:
    return _verl(case, _widths(case, "ppo_clip", dual_clip=case.params["dual_clip_c"]))


def gspo(case: Case) -> Result:
    return _verl(case, _widths(case, "gspo_token"))


def cispo(case: Case) -> Result:
    bounds = {"is_floor": 1 - case.params["clip_low"], "is_cap": 1 + case.params["clip_high"]}
    return _verl(case, {"name": "cispo", **bounds})


def sapo(case: Case) -> Result:
    temperatures = {key: case.params[key] for key in ("tau_pos", "tau_neg")}
    # verl's SAPO aggregates this way whatever it is told
    return _verl(case, {"name": "sapo", **temperatures}, aggregate="seq-mean-token-mean")


def gmpo(case: Case) -> Result:
    # a mean over rollouts whatever the mode, of rollout losses that carry the eps themselves
    per_rollout = {"name": "seq-mean-token-mean", "eps": 0.0}
    result = _verl(case, _widths(case, "gmpo"), aggregate=per_rollout)
    return _per_active_row(result, layout(case))


def _per_active_row(result: Result, frame: Layout) -> Result:
    """Official means over all rows, as means over rows with a trained token."""
    active = int(frame.mask.any(dim=1).sum())
    if active < frame.mask.shape[0]:
        factor = frame.mask.shape[0] / active
        for name in ("loss", "grad_log_prob"):
            result.want[name] = numbers(result.want[name]) * factor
        result.reasons.append(MASKED_ROWS)
    return result


def kl_cov(case: Case) -> Result:
    free = {"name": "ppo_clip", "clip_low": None, "clip_high": None, "max_log_ratio": None}
    options = {"share": case.params["kl_cov_ratio"], "coef": case.params["ppo_kl_coef"]}
    return _verl(case, free, regularizers=[{"name": "kl_cov", **options}])


def clip_cov(case: Case) -> Result:
    widths = {key: case.params[key] for key in ("clip_low", "clip_high")}
    options = {
        "share": case.params["clip_cov_ratio"],
        "low": case.params["lb"],
        "high": case.params["ub"],
        **widths,
    }
    loss = {"name": "ppo_clip", "max_log_ratio": None, **widths}
    return _verl(case, loss, regularizers=[{"name": "clip_cov", **options}])


TRL_AGGREGATES: dict[str, Any] = {
    "grpo": {"name": "seq-mean-token-mean", "eps": 0.0},
    "sapo": {"name": "seq-mean-token-mean", "eps": 0.0},
    "luspo": "seq-mean-token-sum",
    "dr_grpo": "seq-mean-token-sum-norm",
    "bnpo": "token-mean",
    "cispo": "token-mean",
    "dapo": "token-mean",
    "vespo": "token-mean",
}


def trl_losses(case: Case) -> Result:
    params, frame = case.params, layout(case, "mask")
    kind, level = params["loss_type"], params["importance_sampling_level"]
    if kind in ("sapo", "vespo"):
        loss: dict[str, Any] = {"name": kind}
    elif kind == "cispo":
        loss = {"name": "cispo", "is_cap": params["epsilon_high"]}
    else:
        loss = {
            "name": "gspo" if level == "sequence" else "ppo_clip",
            "clip_low": params["epsilon_low"],
            "clip_high": params["epsilon_high"],
            "ratio_cap": params["delta"],
        }
    if kind != "vespo":
        loss["max_log_ratio"] = None
    regularizers: list[Any] = []
    extra = {}
    if params["off_policy_mask_threshold"] is not None:
        regularizers.append({"name": "opsm", "threshold": params["off_policy_mask_threshold"]})
    if params["beta"]:
        term = {"coef": params["beta"], "clamp": False}
        corrected = {"name": "kl_corrected", "level": level}
        regularizers.append(
            {**(corrected if params["use_bias_correction_kl"] else {"name": "kl"}), **term}
        )
        extra["ref_logprobs"] = case.tensor("ref_log_prob")
    algorithm = resolve_algorithm(
        "grpo",
        {"loss": loss, "aggregate": TRL_AGGREGATES[kind], "regularizers": regularizers},
    )
    got, _ = _run(case, algorithm, frame, params["max_completion_length"], **extra)
    result = Result(got, dict(case.expected))
    over_rows = TRL_AGGREGATES[kind] != "token-mean"
    return _per_active_row(result, frame) if over_rows else result


def lp_reg(case: Case) -> Result:
    params = case.params
    if "logits" in case.inputs:
        stats = _vocabulary(case, ("logprob", "proxy_logprob", "lse", "log_kept_mass"))
        # the official code gives a filtered token this logit where the library has probability 0
        filtered = params["filtered_logit"] - stats["lse"] - stats["log_kept_mass"]
        proxy = stats["proxy_logprob"]
        got = {
            "log_prob": stats["logprob"],
            "proxy_log_prob": proxy.where(proxy.isfinite(), filtered),
        }
        shape = case.tensor("tokens").shape
        return Result({key: value.reshape(shape) for key, value in got.items()}, case.expected)
    options = {
        "rho": params["rho_neg"],
        "rho_pos": float(params["rho_pos"]),
        "kappa": params["kappa"],
        "coef": params["coef"],
        "kind": _kl_kind(params.get("kl", "k3")),
    }
    algorithm = resolve_algorithm(
        "lp_reg",
        {
            "loss": _widths(case, "ppo_clip"),
            "aggregate": params["loss_agg_mode"],
            "regularizers": [{"name": "lp_reg", **options}],
        },
    )
    proxy = {"proxy_logprobs": case.tensor("proxy_log_prob")}
    got, metrics = _run(case, algorithm, layout(case), **proxy)
    got["clip_frac"] = metrics["clip_frac"]
    return Result(got, case.expected)


def _vocabulary(case: Case, want: tuple[str, ...]) -> dict[str, Tensor]:
    """Vocabulary statistics of given logits: an identity matrix stands for the head."""
    logits = case.tensor("logits").flatten(0, -2)
    head = torch.eye(logits.shape[1], dtype=logits.dtype)
    tokens = case.tensor("tokens").long().flatten()
    stats = token_stats(logits, head, tokens, want=want, proxy=MinP(case.params["kappa"]))
    return {name: getattr(stats, name) for name in want}


def vocab_stats(case: Case) -> Result:
    names = (
        "logprob",
        "entropy",
        "lse",
        "max_logprob",
        "log_kept_mass",
        "proxy_logprob",
        "sum_p2",
    )
    stats = _vocabulary(case, names)
    got = {
        "selected_logit": stats["logprob"] + stats["lse"],
        "max_logit": stats["max_logprob"] + stats["lse"],
        "logsumexp": stats["lse"],
        "logsumexp_kept": stats["lse"] + stats["log_kept_mass"],
        "token_kept": stats["proxy_logprob"].isfinite(),
        "log_prob": stats["logprob"],
        "proxy_log_prob": stats["proxy_logprob"],
        "entropy": stats["entropy"],
        "sum_p_squared": stats["sum_p2"],
    }
    # how many tokens were kept is no statistic of the kernels
    return Result(got, {key: value for key, value in case.expected.items() if key != "kept_count"})


def ppo_ewma(case: Case) -> Result:
    if "theta_sequence" in case.inputs:
        sequence = case.tensor("theta_sequence")
        average, weight = sequence[0], case.params["total_weight_init"]
        averages = [average]
        for theta in sequence[1:]:
            average, weight = ewma_update(average, weight, theta, decay=case.params["beta_prox"])
            averages.append(average)
        return Result({"theta_ewma": torch.stack(averages), "total_weight": weight}, case.expected)
    logprobs = case.tensor("log_prob").requires_grad_()
    rest = (case.tensor(n) for n in ("prox_log_prob", "behaviour_log_prob", "advantages"))
    options = {"clip": case.params["clip"], "ratio_max": case.params["imp_samp_max"]}
    values = ewma_loss(logprobs, *rest, **options).values
    (gradient,) = torch.autograd.grad(values.mean(), logprobs)
    got = {"per_token_loss": values, "loss_mean": values.mean(), "grad_log_prob": gradient}
    return Result(got, case.expected)


def _kl_kind(name: str) -> str:
    """The library's name of verl's KL estimator."""
    bare, plus = name.rstrip("+"), "+" * name.endswith("+")
    return {"kl": "k1", "mse": "k2", "low_var_kl": "k3"}.get(bare, bare) + plus


def kl_estimators(case: Case) -> Result:
    kind = _kl_kind(case.params["estimator"])
    logprobs = case.tensor("logprob").requires_grad_()
    value = kl_estimate(logprobs, case.tensor("ref_logprob"), kind=kind)
    (gradient,) = torch.autograd.grad(value.sum(), logprobs)
    return Result({"value": value, "dvalue_dlogprob": gradient}, case.expected)


def loss_aggregation(case: Case) -> Result:
    frame = layout(case, "mask")
    columns = ("values", "rollout_index", "denominators")
    options = {"name": case.params["mode"]}
    if (factor := case.params.get("loss_scale_factor")) is not None:
        options["loss_scale_factor"] = factor
    stage = resolve_stage("aggregate", options, AGGREGATES, columns)
    data = {
        "values": frame.pack(case.tensor("loss_mat")),
        "rollout_index": frame.rollout_index,
        "denominators": _denominators(frame),
    }
    return Result({"loss": stage(data)}, case.expected)


def rollout_correction(case: Case) -> Result:
    frame, params = layout(case), case.params
    ratio = frame.pack(case.tensor("log_ratio"))
    columns = (ratio, torch.zeros_like(ratio), frame.rollout_index)
    if "rollout_rs" in params:
        names = [name.strip() for name in params["rollout_rs"].split(",")]
        bounds = [part.strip() for part in str(params["threshold"]).split(",")]
        keep = torch.ones_like(ratio)
        for name, bound in zip(names, bounds * (len(names) // len(bounds)), strict=True):
            level, _, kind = name.rpartition("_")
            low, _, high = bound.rpartition("_")
            limits = {"high": float(high), "low": float(low) if low else None}
            keep = keep * CORRECTIONS["rejected"](*columns, level=level, kind=kind, **limits)
        return Result({"mask": frame.unpack(keep)}, case.expected)
    options = {"level": params["level"], "batch_normalize": params["batch_normalize"]}
    low, _, high = str(params["threshold"]).rpartition("_")
    if low:
        limits = {"low": float(low), "high": float(high)}
        weights = CORRECTIONS["masked"](*columns, **limits, **options)
    else:
        weights = CORRECTIONS["truncated"](*columns, cap=float(high), **options)
    return Result({"weights": frame.unpack(weights)}, case.expected)


LOSSES = {
    "cispo": cispo,
    "clip_cov": clip_cov,
    "gmpo": gmpo,
    "gspo": gspo,
    "kl_cov": kl_cov,
    "kl_estimators": kl_estimators,
    "loss_aggregation": loss_aggregation,
    "lp_reg": lp_reg,
    "ppo_clip_loss": ppo_clip_loss,
    "ppo_ewma": ppo_ewma,
    "rollout_correction": rollout_correction,
    "sapo": sapo,
    "trl_losses": trl_losses,
    "vocab_stats": vocab_stats,
}
