"""Errors of a run after it has started."""


class RunError(RuntimeError):
    """The run failed; one line with the cause and how to continue. Commands exit with 1."""


class Interrupted(RunError):
    """Ctrl-C; says what is kept and how to continue. Commands exit with 130."""
