"""What a user can put right: bad input, reported before anything starts."""


class InputError(ValueError):
    """A file, row, key or option is not usable; one line: where, what it got, what is allowed."""
