"""A reward whose own import fails."""

import not_installed


def f(sample):
    return not_installed.score(sample)
