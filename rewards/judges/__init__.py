"""Rewards from a server: a judge model behind any OpenAI-compatible one, and POLAR.

A server's failure never becomes a score: busy, slow, cut and broken replies are retried within one
deadline where that may help, and are then infra_error.
"""
