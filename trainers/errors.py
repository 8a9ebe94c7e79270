"""Errors of a run after it has started."""


class RunError(RuntimeError):
    """The run failed; one line with the cause and how to continue. Commands exit with 1."""


class Interrupted(RunError):
    """Ctrl-C, SIGTERM or SIGHUP; says what is kept and how to continue. Commands exit with 130."""


class StoppedAtOnce(Interrupted):
    """A second of these signals. A command then ends without the exit handlers of libraries."""
