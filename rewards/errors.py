"""The error of a broken reward function, as opposed to a low score."""


class RewardError(RuntimeError):
    """A reward function broke its contract or raised; the run should stop, not score 0."""
