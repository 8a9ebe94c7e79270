"""What goes wrong outside a single score: bad input from a user, and rewards that break."""


class InputError(ValueError):
    """A file, row, spec or option the user gave is not usable; one clear line."""


class RewardError(RuntimeError):
    """A reward function broke its contract or raised; the run should stop, not score 0."""
