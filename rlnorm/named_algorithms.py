"""Named algorithms: each fills the slots; what it leaves out takes the defaults of DEFAULTS.

A name with "@" reproduces the advantages of that framework, rounding included, so that a result
obtained elsewhere can be repeated. No algorithm includes the reference KL; add it where a
recipe uses it: regularizers: [{name: kl, coef: 0.04}].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rlnorm.errors import InputError
from rlnorm.lookup import suggest

Part = Literal["estimator", "modulators", "regularizers", "loss", "sample_plan"]


@dataclass(frozen=True, slots=True)
class AlgorithmSpec:
    """What an algorithm is, and how it differs from DEFAULTS."""

    summary: str
    paper: str
    slots: Mapping[str, Any] = field(default_factory=dict)
    part: Part = "estimator"
    """The slot that it is named for: what alone differs in a comparison."""


DEFAULTS: dict[str, Any] = {
    "shaping": [],
    "estimator": "grpo",
    "modulators": [],
    "loss": "ppo_clip",
    "aggregate": "token-mean",
    "regularizers": [],
    "correction": [],
    "sample_plan": {},
}

_CLIP_HIGHER = {"name": "ppo_clip", "clip_low": 0.2, "clip_high": 0.28}
_VERL = {"name": "ppo_clip", "dual_clip": 3.0}
_PIVOT = {"extra_kind": "pivot"}
_GREEDY = {"extra_kind": "greedy"}
_PER_ROLLOUT = "seq-mean-token-mean"


def _compat(**options: Any) -> dict[str, Any]:
    return {"name": "grpo_compat", **options}


ALGORITHMS: dict[str, AlgorithmSpec] = {
    "grpo": AlgorithmSpec(
        "group z-score, clipped ratio, every rollout counts alike",
        "arXiv:2402.03300",
        {"aggregate": _PER_ROLLOUT},
    ),
    "dr_grpo": AlgorithmSpec(
        "GRPO without the std and with a constant horizon",
        "arXiv:2503.20783",
        {"estimator": "reinforce", "aggregate": "seq-mean-token-sum-norm"},
    ),
    "dapo": AlgorithmSpec(
        "clip-higher, token mean, prompts resampled until their rewards differ",
        "arXiv:2503.14476",
        {"loss": _CLIP_HIGHER, "sample_plan": {"resample": True}},
        part="sample_plan",
    ),
    "gdpo": AlgorithmSpec(
        "each reward z-scored in its group, their sum over the batch",
        "arXiv:2601.05242",
        {"estimator": "gdpo"},
    ),
    "bnpo": AlgorithmSpec(
        "Beta-weighted rewards",
        "arXiv:2506.02864",
        {
            "estimator": "bnpo",
            "loss": {**_CLIP_HIGHER, "dual_clip": 10.0},
            "aggregate": "seq-mean-token-sum",
        },
    ),
    "mc_grpo": AlgorithmSpec(
        "median baseline over one extra rollout; a median one is dropped",
        "arXiv:2601.22582",
        {"estimator": "mc_grpo", "sample_plan": _PIVOT},
    ),
    "mapo": AlgorithmSpec(
        "returns compared turn by turn, for multi-turn tasks",
        "arXiv:2603.06194",
        {"estimator": "mapo"},
    ),
    "mapo_certainty": AlgorithmSpec(
        "z-score and relative deviation mixed by the prompt's certainty",
        "arXiv:2509.18849",
        {"estimator": "mapo_certainty", "aggregate": _PER_ROLLOUT},
    ),
    "ace": AlgorithmSpec(
        "GRPO with confident errors weighted up",
        "arXiv:2602.21420",
        {"modulators": ["ace"], "aggregate": _PER_ROLLOUT},
        part="modulators",
    ),
    "ace_dapo": AlgorithmSpec(
        "DAPO with confident errors weighted up",
        "arXiv:2602.21420",
        {"modulators": ["ace"], "loss": _CLIP_HIGHER, "sample_plan": {"resample": True}},
        part="modulators",
    ),
    "lp_reg": AlgorithmSpec(
        "GRPO that protects unlikely but sensible tokens",
        "arXiv:2510.03222",
        {
            "loss": {"name": "ppo_clip", "clip_low": 1.0, "clip_high": 9.0},
            "regularizers": ["lp_reg"],
        },
        part="regularizers",
    ),
    "reinforce": AlgorithmSpec(
        "policy gradient with the group mean as baseline",
        "Williams 1992",
        {"estimator": "reinforce", "loss": "reinforce"},
    ),
    "reinforce_pp": AlgorithmSpec(
        "token returns whitened over the batch", "arXiv:2501.03262", {"estimator": "reinforce_pp"}
    ),
    "reinforce_pp_baseline": AlgorithmSpec(
        "rewards minus their group mean, whitened over the batch's tokens",
        "arXiv:2501.03262",
        {"estimator": {"name": "reinforce_pp", "baseline": True}},
    ),
    "rloo": AlgorithmSpec("leave-one-out baseline", "arXiv:2402.14740", {"estimator": "rloo"}),
    "remax": AlgorithmSpec(
        "a greedy rollout as baseline",
        "arXiv:2310.10505",
        {"estimator": "remax", "sample_plan": _GREEDY},
    ),
    "opo": AlgorithmSpec("length-weighted baseline", "arXiv:2505.23585", {"estimator": "opo"}),
    "gpg": AlgorithmSpec(
        "centred rewards scaled by how rare they are",
        "arXiv:2504.02546",
        {"estimator": "gpg", "loss": "reinforce"},
    ),
    "otb": AlgorithmSpec("a baseline for every timestep", "verl 0.9.1", {"estimator": "otb"}),
    "grpo_process": AlgorithmSpec(
        "GRPO with a reward for every step",
        "arXiv:2402.03300",
        {"estimator": "grpo_process", "aggregate": _PER_ROLLOUT},
    ),
    "pass_at_k": AlgorithmSpec(
        "only the best rollout of a group trains", "arXiv:2503.19595", {"estimator": "pass_at_k"}
    ),
    "gspo": AlgorithmSpec(
        "one ratio per rollout",
        "arXiv:2507.18071",
        {"loss": "gspo", "aggregate": _PER_ROLLOUT},
        part="loss",
    ),
    "gspo_token": AlgorithmSpec(
        "one ratio per rollout, gradient per token",
        "arXiv:2507.18071",
        {"loss": "gspo_token", "aggregate": _PER_ROLLOUT},
        part="loss",
    ),
    "luspo": AlgorithmSpec(
        "GSPO summed over tokens, as in TRL 1.16",
        "TRL 1.16",
        {
            "loss": {"name": "gspo", "clip_low": 0.2, "clip_high": 0.2},
            "aggregate": "seq-mean-token-sum",
        },
        part="loss",
    ),
    "cispo": AlgorithmSpec(
        "clipped constant weights", "arXiv:2506.13585", {"loss": "cispo"}, part="loss"
    ),
    "gmpo": AlgorithmSpec(
        "geometric mean of clipped token ratios",
        "arXiv:2507.20673",
        {"loss": "gmpo", "aggregate": {"name": _PER_ROLLOUT, "eps": 0.0}},
        part="loss",
    ),
    "sapo": AlgorithmSpec(
        "a smooth gate in place of the clip",
        "arXiv:2511.20347",
        {"loss": "sapo", "aggregate": _PER_ROLLOUT},
        part="loss",
    ),
    "vespo": AlgorithmSpec(
        "gamma-shaped rollout weights", "TRL 1.16", {"loss": "vespo"}, part="loss"
    ),
    "ppo_ewma": AlgorithmSpec(
        "clip against an averaged policy", "arXiv:2110.00641", {"loss": "ppo_ewma"}, part="loss"
    ),
    "clip_cov": AlgorithmSpec(
        "a few high-covariance tokens get no gradient",
        "arXiv:2505.22617",
        {"regularizers": ["clip_cov"]},
        part="regularizers",
    ),
    "kl_cov": AlgorithmSpec(
        "a few high-covariance tokens are held to the old policy",
        "arXiv:2505.22617",
        {
            "loss": {"name": "ppo_clip", "clip_low": None, "clip_high": None},
            "regularizers": ["kl_cov"],
        },
        part="regularizers",
    ),
    "top_entropy": AlgorithmSpec(
        "DAPO's loss on the fifth of the tokens with the highest entropy",
        "arXiv:2506.01939",
        {"loss": _CLIP_HIGHER, "regularizers": ["top_entropy"]},
        part="regularizers",
    ),
    "grpo@verl": AlgorithmSpec(
        "advantages of verl 0.9.1, SkyRL, slime and ROLL (float32, eps 1e-6, raw singletons)",
        "verl 0.9.1",
        {"estimator": _compat(singleton="reward"), "loss": _VERL},
    ),
    "grpo@trl": AlgorithmSpec(
        "advantages of TRL 1.16 and torchforge (float32, eps 1e-4)",
        "TRL 1.16",
        {"estimator": _compat(eps=1e-4)},
    ),
    "grpo@openrlhf": AlgorithmSpec(
        "advantages of OpenRLHF 0.11 group_norm (float32, eps 1e-9)",
        "OpenRLHF 0.11",
        {"estimator": _compat(eps=1e-9)},
    ),
    "grpo@nemo_rl": AlgorithmSpec(
        "advantages of NeMo-RL 0.6, leave-one-out mean and std (float32, eps 1e-6)",
        "NeMo-RL 0.6",
        {"estimator": _compat(baseline="leave_one_out")},
    ),
    "grpo@nemo_rl_no_loo": AlgorithmSpec(
        "advantages of NeMo-RL 0.6 without leave-one-out (float32, eps 1e-6)",
        "NeMo-RL 0.6",
        {"estimator": _compat(baseline="matmul")},
    ),
    "grpo@prime_rl": AlgorithmSpec(
        "advantages of prime-rl and tinker-cookbook: centred only (float32)",
        "prime-rl 0.8",
        {"estimator": _compat(scale="none")},
    ),
    "grpo@open_instruct": AlgorithmSpec(
        "advantages of open-instruct, standard (population std, eps 1e-8)",
        "open-instruct 2026-08",
        {"estimator": _compat(eps=1e-8, ddof=0, dtype="float64")},
    ),
    "gdpo@verl": AlgorithmSpec(
        "GDPO of verl 0.9.1: eps 1e-6, whitened over tokens, raw singletons",
        "verl 0.9.1",
        {
            "estimator": {
                "name": "gdpo",
                "eps": 1e-6,
                "batch_norm_weighting": "token",
                "batch_eps": 1e-8,
                "singleton": "reward",
            },
            "loss": _VERL,
        },
    ),
}


def named_algorithm(name: str) -> AlgorithmSpec:
    """The algorithm of that name. Raises InputError with the names there are."""
    if name not in ALGORITHMS:
        raise InputError(
            f"algorithm = {name!r}: choose from {sorted(ALGORITHMS)}{suggest(name, ALGORITHMS)}"
        )
    return ALGORITHMS[name]
