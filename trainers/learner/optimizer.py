"""AdamW and its learning-rate schedule."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from rlnorm.trainers.config.schema import LearnerConfig

PROXIMAL_DECAY = 0.889
"""b of PPO-EWMA."""


def build_optimizer(model: nn.Module, config: LearnerConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; weight decay applies to matrices only."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if _is_matrix(p)], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if not _is_matrix(p)], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


@torch.no_grad()
def average_into(slow: Iterable[Tensor], fast: Iterable[Tensor], weight: float) -> float:
    """Move the proximal policy towards the policy, in place (PPO-EWMA, arXiv 2110.00641).

    slow <- (b W slow + fast) / (b W + 1), W <- b W + 1; returns the new W.
    """
    old = PROXIMAL_DECAY * weight
    for average, new in zip(slow, fast, strict=True):
        average.mul_(old).add_(new).div_(old + 1)
    return old + 1


def _is_matrix(parameter: nn.Parameter) -> bool:
    # ZeRO-3 replaces a sharded parameter by an empty vector and keeps its shape in ds_shape
    return len(getattr(parameter, "ds_shape", parameter.shape)) >= 2


def lr_schedule(config: LearnerConfig, steps: int) -> Callable[[int], float]:
    """Learning rate as a function of the RL step from 0: linear warm-up, then the schedule."""
    decays: dict[str, Callable[[float], float]] = {
        "constant": lambda x: 1.0,
        "linear": lambda x: 1.0 - x,
        "cosine": lambda x: 0.5 * (1.0 + math.cos(math.pi * x)),
    }

    def lr(step: int) -> float:
        if step < config.warmup_steps:
            return config.lr * (step + 1) / config.warmup_steps
        span = max(1, steps - config.warmup_steps)
        return config.lr * decays[config.schedule](min(1.0, (step - config.warmup_steps) / span))

    return lr
