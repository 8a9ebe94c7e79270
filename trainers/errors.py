"""Errors of a run that started well and could not go on."""


class RunError(RuntimeError):
    """The run failed; one line with the cause and how to go on. Commands end with status 1."""
