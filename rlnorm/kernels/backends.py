"""Which backend serves a call."""

import logging
from functools import cache

import torch

from rlnorm.kernels.chunked import Backend
from rlnorm.kernels.products import TorchProducts
from rlnorm.kernels.rows import TorchRows

log = logging.getLogger(__name__)
BACKENDS = ("auto", "reference", "chunked")


def resolve_backend(name: str, device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend asked for; "auto" takes the fastest that can serve and logs it once.

    Raises ValueError for an unknown name and RuntimeError for one that cannot serve here.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend = {name!r}: choose from {list(BACKENDS)}")
    if name == "auto":
        return _automatic(device.type, dtype)
    return _named(name)


@cache
def _named(name: str) -> Backend:
    return Backend("chunked", TorchRows(), TorchProducts())


@cache
def _automatic(device: str, dtype: torch.dtype) -> Backend:
    log.info("kernels: auto takes 'chunked' for %s on %s", dtype, device)
    return _named("chunked")
