"""Training: config, loop, rollout pools, learners, weight sync, checkpoints, evaluation."""

from rlnorm.trainers.api import RunResult, train

__all__ = ["RunResult", "train"]
