"""Which backend serves a call."""

import logging
from functools import cache

import torch

from rlnorm.kernels.chunked import Backend
from rlnorm.kernels.products import TorchProducts
from rlnorm.kernels.rows import TorchRows

log = logging.getLogger(__name__)
BACKENDS = ("auto", "reference", "chunked", "cpp", "triton")


def resolve_backend(name: str, device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend asked for; "auto" takes the fastest available and logs once which and why.

    Raises ValueError for an unknown name or one that does not serve this device or dtype, and
    RuntimeError for one that is not available here.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend = {name!r}: choose from {list(BACKENDS)}")
    if name == "auto":
        return _automatic(device.type, dtype)
    return _named(name, device.type, dtype)


@cache
def _automatic(device: str, dtype: torch.dtype) -> Backend:
    fast = "cpp" if device == "cpu" else "triton"
    try:
        backend, why = _named(fast, device, dtype), "the fastest one here"
    except (ValueError, RuntimeError) as error:
        backend, why = _named("chunked", device, dtype), str(error)
    log.info("kernels: auto takes %r for %s on %s: %s", backend.name, dtype, device, why)
    return backend


@cache
def _named(name: str, device: str, dtype: torch.dtype) -> Backend:
    if name == "chunked":
        return Backend("chunked", TorchRows(), TorchProducts())
    if dtype == torch.float64:
        raise ValueError(f"backend = {name!r}: float64 is served by 'reference' and 'chunked'")
    if name == "reference":
        raise ValueError("backend = 'reference': not served here, choose 'chunked'")
    if name == "cpp":
        return _cpp(device)
    return _triton(device)


def _cpp(device: str) -> Backend:
    from rlnorm.kernels import cpu

    if device != "cpu":
        raise ValueError(f"backend = 'cpp': serves tensors on cpu, got {device}")
    return Backend("cpp", cpu.CppRows(), cpu.CppProducts())


def _triton(device: str) -> Backend:
    try:
        from rlnorm.kernels import triton_backend
    except ImportError as error:
        raise RuntimeError(f"backend = 'triton': cannot be imported: {error}") from error
    if device != "cuda" and not triton_backend.INTERPRETED:
        raise ValueError(f"backend = 'triton': serves tensors on cuda, got {device}")
    return Backend("triton", triton_backend.TritonRows(), TorchProducts())
