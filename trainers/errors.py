"""Errors of a run that started well and could not go on."""


class RunError(RuntimeError):
    """The run failed; one line with the cause and how to go on. Commands end with status 1."""


class Interrupted(RunError):
    """Ctrl-C, with what is kept and how to go on. Commands end with status 130."""
