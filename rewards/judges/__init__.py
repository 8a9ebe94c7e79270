"""Rewards that ask a server: a judge behind any OpenAI-compatible one, and POLAR's.

Nothing a server does becomes a score by accident: busy, slow, cut and broken replies are tried
again inside one deadline where that may help, and are infra_error after it.
"""
