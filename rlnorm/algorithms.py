"""A named algorithm with its slots filled and checked: what the driver and the learner call.

The driver, once per step, with every rollout: advantages and correction_weights.
The learner: select over all trained tokens of an optimizer step, then loss for each microbatch of
complete rollouts; the parts add up to the same loss and metrics under any split.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.advantages import advantage_stages
from rlnorm.advantages.run import run_stages
from rlnorm.correction import CORRECTIONS
from rlnorm.lookup import suggest
from rlnorm.losses import AGGREGATES, LOSSES
from rlnorm.losses.types import TokenLoss
from rlnorm.named_algorithms import DEFAULTS, named_algorithm
from rlnorm.options import options_of
from rlnorm.regularizers import TOKEN_MEAN
from rlnorm.regularizers.entropy import EntropyController
from rlnorm.regularizers.types import Replacement
from rlnorm.sampling import SamplePlan
from rlnorm.slots import (
    CORRECTION_COLUMNS,
    LEARNER_COLUMNS,
    SCORED,
    entries,
    overridden,
    regularizer,
    sample_plan,
    stages,
)
from rlnorm.stages import Stage, resolve_stage
from rlnorm.types import Advantages, LossDenominators


class Algorithm:
    """Resolved stages of one algorithm. Made by resolve_algorithm."""

    def __init__(self, name: str, slots: Mapping[str, Any]) -> None:
        self.name = name
        self.sample_plan = sample_plan(slots["sample_plan"])
        self.shaping, self.estimator, self.modulators = advantage_stages(slots)
        self.loss_stage = resolve_stage("loss", slots["loss"], LOSSES, LEARNER_COLUMNS)
        self.aggregate = resolve_stage(
            "aggregate", slots["aggregate"], AGGREGATES, {"values", "rollout_index", "denominators"}
        )
        self.token_mean = resolve_stage(
            "aggregate", "token-mean", AGGREGATES, {"values", "denominators"}
        )
        pairs = [regularizer(i, spec) for i, spec in enumerate(entries(slots["regularizers"]))]
        self.regularizers = tuple(stage for stage, _ in pairs)
        selectors = [selector for _, selector in pairs if selector is not None]
        if len(selectors) > 1:
            raise ValueError(
                f"regularizers: {[s.name for s in selectors]} each select tokens: at most one may"
            )
        self.selector = selectors[0] if selectors else None
        self.correction = stages("correction", slots["correction"], CORRECTIONS, CORRECTION_COLUMNS)
        self._entropy = _entropy_controller(self.regularizers)

    @property
    def needs(self) -> frozenset[str]:
        """Token columns that scoring passes must supply."""
        driver = (*self.shaping, self.estimator, *self.modulators, *self.correction)
        named = {c for stage in driver for c in stage.data}
        if self.selector is not None:
            named |= set(self.selector.data)
        training = {c for s in (self.loss_stage, *self.regularizers) for c in s.data}
        return frozenset((named | (training - {"entropy"})) & SCORED)

    @property
    def training_needs(self) -> frozenset[str]:
        """Statistics besides logprobs that training's forward pass must give, with gradient."""
        named = {c for s in (self.loss_stage, *self.regularizers) for c in s.data}
        return frozenset(named & {"entropy"})

    @property
    def kappa(self) -> float | None:
        """Threshold of the min-p proxy when proxy_logprobs is needed, else None."""
        for stage in self.regularizers:
            if "proxy_logprobs" in stage.data:
                kappa = stage.options.get("kappa", options_of(stage.function).get("kappa"))
                return None if kappa is None else float(kappa)
        return None

    @property
    def zero_at_zero_advantage(self) -> bool:
        """True when a rollout whose every advantage is 0 adds nothing to loss or gradient.

        All shipped losses are multiples of the advantage; regularizers are not, and of a user's
        own loss nothing is assumed.
        """
        return not self.regularizers and self.loss_stage.name in LOSSES

    def advantages(self, data: Mapping[str, Tensor]) -> Advantages:
        """Shape the rewards, estimate, modulate; over all rollouts of the step, in float64."""
        return run_stages(self.shaping, self.estimator, self.modulators, data)

    def correction_weights(
        self,
        old_logprobs: Float[Tensor, " t"],
        sampler_logprobs: Float[Tensor, " t"],
        rollout_index: Int[Tensor, " t"],
    ) -> Float[Tensor, " t"]:
        """Constant weights of the token losses, 1 without a correction; for a full step."""
        data = {
            "old_logprobs": old_logprobs,
            "sampler_logprobs": sampler_logprobs,
            "rollout_index": rollout_index,
        }
        weights = torch.ones_like(old_logprobs)
        for stage in self.correction:
            weights = weights * stage(data)
        return weights.detach()

    def select(self, data: Mapping[str, Tensor]) -> Bool[Tensor, " t"] | None:
        """True for the selected ones among a step's trained tokens; None if nothing selects."""
        if self.selector is None:
            return None
        with torch.no_grad():
            marks: Tensor = self.selector(data)
        return marks

    def loss(
        self, data: Mapping[str, Tensor], denominators: LossDenominators
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """What this microbatch adds to the loss of the step, and to its metrics.

        data: learner columns of complete rollouts; `correction` [t] where there is one, `selected`
        [t] where the algorithm selects. Metrics are detached and add up over microbatches too.
        """
        columns: dict[str, Any] = dict(data)
        if self._entropy is not None:
            columns["entropy_coef"] = columns["logprobs"].new_tensor(self._entropy_applied())
        result = self.loss_stage(columns)
        result = result if isinstance(result, TokenLoss) else TokenLoss(result)
        values, added = result.values, []
        for stage in self.regularizers:
            term = stage(columns)
            if isinstance(term, Replacement):
                values = torch.where(term.where, term.values, values)
            else:
                added.append((stage.name, term))
        if (weights := columns.get("correction")) is not None:
            values = torch.where(weights == 0, torch.zeros_like(values), values * weights)
        loss = self._aggregated(self.aggregate, values, columns, denominators)
        metrics = self._metrics(result, columns, denominators)
        metrics["policy_loss"] = loss.detach()
        for name, term in added:
            aggregate = self.token_mean if name in TOKEN_MEAN else self.aggregate
            part = self._aggregated(aggregate, term, columns, denominators)
            metrics[f"{name}_loss"] = part.detach()
            loss = loss + part
        return loss, metrics

    def after_step(self, metrics: Mapping[str, float]) -> None:
        """Let adaptive coefficients follow the step's metrics, which must be complete sums."""
        if self._entropy is not None:
            options = self._adaptive_options()
            keys = ("target", "delta", "coef_min", "coef_max")
            self._entropy = self._entropy.updated(
                metrics["entropy"], **{key: options[key] for key in keys}
            )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep of this object."""
        if self._entropy is None:
            return {}
        return {"coef": self._entropy.coef, "last_entropy": self._entropy.last_entropy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo state_dict."""
        if self._entropy is not None:
            self._entropy = EntropyController(**state)

    def describe(self) -> dict[str, Any]:
        """Every slot with every option, defaults included: what a run should record."""
        return {
            "algorithm": self.name,
            "sample_plan": {
                key: getattr(self.sample_plan, key) for key in SamplePlan.__dataclass_fields__
            },
            "shaping": [_described(s) for s in self.shaping],
            "estimator": _described(self.estimator),
            "modulators": [_described(s) for s in self.modulators],
            "loss": _described(self.loss_stage),
            "aggregate": _described(self.aggregate),
            "regularizers": [_described(s) for s in self.regularizers],
            "selector": None if self.selector is None else _described(self.selector),
            "correction": [_described(s) for s in self.correction],
        }

    def _aggregated(
        self, stage: Stage, values: Tensor, columns: Mapping[str, Any], counts: LossDenominators
    ) -> Tensor:
        part: Tensor = stage(
            {"values": values, "rollout_index": columns["rollout_index"], "denominators": counts}
        )
        return part

    def _metrics(
        self, result: TokenLoss, columns: Mapping[str, Any], counts: LossDenominators
    ) -> dict[str, Tensor]:
        tokens = max(counts.tokens, 1)
        metrics = {}
        if result.clipped is not None:
            metrics["clip_frac"] = result.clipped.to(result.values.dtype).sum() / tokens
        if result.clipped_low is not None:
            metrics["clip_frac_low"] = result.clipped_low.to(result.values.dtype).sum() / tokens
        if (old := columns.get("old_logprobs")) is not None:
            difference = (old - columns["logprobs"]).detach()
            metrics["approx_kl"] = difference.sum() / tokens
            metrics["abs_log_ratio"] = difference.abs().sum() / tokens
        if (entropy := columns.get("entropy")) is not None:
            metrics["entropy"] = entropy.detach().sum() / tokens
        if (weights := columns.get("correction")) is not None:
            metrics["correction_mean"] = weights.sum() / tokens
            metrics["correction_dropped_frac"] = (weights == 0).to(weights.dtype).sum() / tokens
        if self.selector is not None:
            metrics["selected_frac"] = columns["selected"].to(result.values.dtype).sum() / tokens
        return metrics

    def _adaptive_options(self) -> dict[str, Any]:
        stage = next(s for s in self.regularizers if "entropy_coef" in s.data)
        return {**options_of(stage.function), **stage.options}

    def _entropy_applied(self) -> float:
        assert self._entropy is not None
        return self._entropy.applied(target=self._adaptive_options()["target"])


def resolve_algorithm(name: str, overrides: Mapping[str, Any] | None = None) -> Algorithm:
    """The named algorithm with slots overridden; everything is checked here, before any launch.

    overrides: slot -> stage, None for the algorithm's own. A stage is a name or a table with "name"
    and options; one that leaves the name out, or repeats it, keeps the algorithm's other options.
    Lists replace lists. Raises ValueError with the slot, what it got and what is allowed.
    """
    slots = {**DEFAULTS, **named_algorithm(name).slots}
    for slot, value in (overrides or {}).items():
        if slot not in DEFAULTS:
            raise ValueError(
                f"{slot} = {value!r}: not a slot of an algorithm: allowed {sorted(DEFAULTS)}"
                f"{suggest(slot, DEFAULTS)}"
            )
        if value is not None:
            slots[slot] = overridden(slot, slots[slot], value)
    return Algorithm(name, slots)


def _entropy_controller(regularizers: tuple[Stage, ...]) -> EntropyController | None:
    for stage in regularizers:
        if "entropy_coef" in stage.data:
            return EntropyController({**options_of(stage.function), **stage.options}["coef"])
    return None


def _described(stage: Stage) -> dict[str, Any]:
    return {"name": stage.name, **options_of(stage.function), **stage.options}
