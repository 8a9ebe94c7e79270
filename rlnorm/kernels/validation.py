"""Every check on the arguments of the kernels. Messages name the argument, got, allowed.

Values that live on the device (targets, a temperature tensor) are checked together in one
transfer, so a call on a GPU waits for the device once here.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlnorm.kernels.types import PROXY_STATISTICS, STATISTICS, MinP

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_want(want: Iterable[str], proxy: MinP | None) -> frozenset[str]:
    """The statistics asked for, as a set."""
    if isinstance(want, str):
        raise ValueError(f"want = {want!r}: pass a tuple of names, such as ({want!r},)")
    names = frozenset(want)
    if not names:
        raise ValueError(f"want = (): name at least one of {list(STATISTICS)}")
    if unknown := names - set(STATISTICS):
        raise ValueError(f"want = {min(unknown)!r}: choose from {list(STATISTICS)}")
    needs_proxy = names.intersection(PROXY_STATISTICS)
    if needs_proxy and proxy is None:
        raise ValueError(f"proxy = None: {min(needs_proxy)} needs one, such as MinP(0.02)")
    return names


def check_matrix(name: str, x: Tensor) -> None:
    """A non-empty floating matrix."""
    if x.dim() != 2 or 0 in x.shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: must be a non-empty matrix")
    if x.dtype not in FLOATS:
        raise ValueError(f"{name} has dtype {x.dtype}: choose from {list(FLOATS)}")


def check_head(
    hidden: Float[Tensor, "t d"], weight: Float[Tensor, "v d"], bias: Float[Tensor, " v"] | None
) -> None:
    """Shapes, dtypes and devices of the operands."""
    check_matrix("hidden", hidden)
    check_matrix("weight", weight)
    if weight.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: its columns must match hidden's "
            f"{hidden.shape[1]}"
        )
    if weight.dtype != hidden.dtype:
        raise ValueError(f"weight has dtype {weight.dtype}: must be hidden's {hidden.dtype}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {tuple(bias.shape)}: must be ({weight.shape[0]},)")
    for name, x in (("weight", weight), ("bias", bias)):
        if x is not None and x.device != hidden.device:
            raise ValueError(f"{name} is on {x.device}: must be on hidden's {hidden.device}")


def check_rows(name: str, value: Tensor, rows: int, device: torch.device) -> None:
    """A per-token argument has one entry per row and is on the rows' device."""
    if value.shape != (rows,):
        raise ValueError(f"{name} has shape {tuple(value.shape)}: must be ({rows},)")
    if value.device != device:
        raise ValueError(f"{name} is on {value.device}: must be on hidden's {device}")


def check_vocabulary(
    local: int, vocab_start: int, vocab_size: int | None, tp_group: object | None
) -> int:
    """The global vocabulary size."""
    if tp_group is None:
        if vocab_start != 0:
            raise ValueError(f"vocab_start = {vocab_start}: must be 0 without a tp_group")
        vocab_size = local if vocab_size is None else vocab_size
        if not 1 <= vocab_size <= local:
            raise ValueError(f"vocab_size = {vocab_size}: must be in [1, {local}], weight's rows")
        return vocab_size
    if vocab_size is None or vocab_size < 1:
        raise ValueError(f"vocab_size = {vocab_size}: a tp_group needs the global size, >= 1")
    if vocab_start < 0:
        raise ValueError(f"vocab_start = {vocab_start}: must be >= 0")
    return vocab_size


def check_scalars(
    temperature: float | Tensor, softcap: float | None, workspace_bytes: int | None
) -> None:
    """All checks that read nothing from device memory."""
    if not isinstance(temperature, Tensor) and not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature = {temperature!r}: must be finite and > 0")
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise ValueError("temperature requires grad: it is not differentiated, detach it")
    if softcap is not None and not (math.isfinite(softcap) and softcap > 0):
        raise ValueError(f"softcap = {softcap!r}: must be finite and > 0, or None")
    if workspace_bytes is not None and workspace_bytes < 1:
        raise ValueError(f"workspace_bytes = {workspace_bytes}: must be >= 1, or None")


def check_values(
    targets: Int[Tensor, " t"],
    temperature: float | Tensor,
    vocab_size: int,
    row_mask: Bool[Tensor, " t"] | None,
) -> None:
    """Targets in [0, vocab_size) and temperatures finite and > 0 on every row that counts."""
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"targets has dtype {targets.dtype}: must be an integer dtype")
    counted = targets if row_mask is None else targets.where(row_mask, 0)
    extremes = [x.double() for x in counted.aminmax()]
    if isinstance(temperature, Tensor):
        scale = temperature if row_mask is None else temperature.where(row_mask, 1)
        extremes += [x.double() for x in scale.aminmax()]
    low, high, *scales = torch.stack(extremes).tolist()
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"targets span [{int(low)}, {int(high)}]: must be in [0, {vocab_size}) "
            "where row_mask is True"
        )
    if scales and not (math.isfinite(scales[0]) and math.isfinite(scales[1]) and scales[0] > 0):
        raise ValueError(f"temperature spans {scales}: must be finite and > 0")
