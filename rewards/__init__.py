"""Rewards: verifiers, worker pool, sandbox, environments, judges. Imports no torch and no ray."""

from rlnorm.errors import InputError
from rlnorm.rewards.alarm import Alarm
from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.registry import load_rewards
from rlnorm.rewards.results import ComponentScore
from rlnorm.rewards.scorer import Scorer
from rlnorm.rewards.types import Sample, Score, Status

__all__ = [
    "Alarm",
    "ComponentScore",
    "InputError",
    "RewardError",
    "Sample",
    "Score",
    "Scorer",
    "Status",
    "load_rewards",
]
