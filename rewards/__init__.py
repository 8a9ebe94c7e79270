"""Text to numbers: verifiers, worker pool, sandbox, environments, judges. No torch, no ray."""

from rewards.errors import InputError, RewardError
from rewards.registry import load_rewards
from rewards.results import ComponentScore
from rewards.scorer import Alarm, Scorer
from rewards.types import Reward, Sample, Score, Status

__all__ = [
    "Alarm",
    "ComponentScore",
    "InputError",
    "Reward",
    "RewardError",
    "Sample",
    "Score",
    "Scorer",
    "Status",
    "load_rewards",
]
