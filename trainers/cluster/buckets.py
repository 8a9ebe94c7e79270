"""Packing of named tensors into flat buckets for transfer, and digests that verify them."""

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Bucket:
    """Several tensors as one byte array, which Ray shares between processes without a copy."""

    data: UInt8[np.ndarray, " bytes"]
    entries: tuple[tuple[str, str, tuple[int, ...]], ...]
    """(name, dtype, shape) of each tensor, in the order of data."""


def pack_buckets(
    weights: Iterable[tuple[str, Tensor]], *, bucket_mb: float, dtype: torch.dtype | None = None
) -> Iterator[Bucket]:
    """Buckets of at most bucket_mb MiB (a larger tensor has its own), cast to dtype if given.

    Raises FloatingPointError for NaN or infinity: such weights must never reach a sampler.
    """
    limit, held, size = int(bucket_mb * 2**20), list[tuple[str, Tensor]](), 0
    for name, tensor in weights:
        tensor = tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()
        if not bool(torch.isfinite(tensor).all()):
            raise FloatingPointError(f"weights: {name} holds NaN or infinity, nothing was sent")
        if held and size + tensor.nbytes > limit:
            yield _join(held)
            held, size = [], 0
        held.append((name, tensor))
        size += tensor.nbytes
    if held:
        yield _join(held)


def unpack(bucket: Bucket) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a bucket, copied from its read-only memory."""
    start = 0
    for name, dtype_name, shape in bucket.entries:
        dtype = getattr(torch, dtype_name)
        end = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        yield name, torch.from_numpy(bucket.data[start:end].copy()).view(dtype).view(shape)
        start = end


def digest(tensor: Tensor) -> str:
    """BLAKE2 of a tensor's bytes."""
    raw = _bytes(tensor.detach().cpu().contiguous())
    return hashlib.blake2b(raw.data, digest_size=16).hexdigest()


def sample_names(names: Sequence[str], version: int, count: int = 8) -> tuple[str, ...]:
    """The tensors whose digests are compared at this version: the first, the last, and `count` that
    change with the version, so that all tensors are checked over time."""
    ordered = sorted(set(names))
    drawn = random.Random(version).sample(ordered, min(count, len(ordered)))
    return tuple(sorted({ordered[0], ordered[-1], *drawn}))


def bucket_digests(buckets: Iterable[Bucket], names: Iterable[str]) -> dict[str, str]:
    """Digests of the named tensors in the buckets."""
    wanted = set(names)
    return {n: digest(w) for bucket in buckets for n, w in unpack(bucket) if n in wanted}


def shapes_of(buckets: Iterable[Bucket]) -> Mapping[str, tuple[int, ...]]:
    """Shapes of all tensors by name."""
    return {name: shape for bucket in buckets for name, _, shape in bucket.entries}


def _join(held: Sequence[tuple[str, Tensor]]) -> Bucket:
    return Bucket(
        data=np.concatenate([_bytes(tensor) for _, tensor in held]),
        entries=tuple((n, str(t.dtype).removeprefix("torch."), tuple(t.shape)) for n, t in held),
    )


def _bytes(tensor: Tensor) -> UInt8[np.ndarray, " bytes"]:
    return tensor.reshape(-1).view(torch.uint8).numpy()
