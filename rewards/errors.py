"""A reward that breaks, which is not a score."""


class RewardError(RuntimeError):
    """A reward function broke its contract or raised; the run should stop, not score 0."""
