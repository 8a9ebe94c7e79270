"""Matrix products with float32 results: logits are never rounded to a 16-bit dtype.

On a GPU 16-bit operands are multiplied as they are with `out_dtype=float32`. Torch on a CPU has
no such product, so operands are widened to float32 a slice at a time.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Products(Protocol):
    """How a backend multiplies."""

    def operand(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
        """x converted to the dtype that products take."""
        ...

    def logits(
        self, h: Float[Tensor, "c d"], w: Float[Tensor, "k d"], out: Float[Tensor, "c k"]
    ) -> None:
        """out = h w^T."""
        ...

    def add(
        self, total: Float[Tensor, "m n"], x: Float[Tensor, "m k"], y: Float[Tensor, "k n"]
    ) -> None:
        """total += x y, total float32 (or float64 with float64 operands)."""
        ...

    def write(
        self, out: Float[Tensor, "m n"], x: Float[Tensor, "m k"], y: Float[Tensor, "k n"]
    ) -> None:
        """out = x y, summed in float32 and rounded once to out's dtype."""
        ...


class TorchProducts:
    """torch.mm everywhere. widen: 16-bit operands as float32 on a GPU too."""

    def __init__(self, *, widen: bool = False) -> None:
        self._widen = widen

    def operand(self, x: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
        narrow = x.dtype in (torch.bfloat16, torch.float16)
        # the Triton interpreter and CPUs have no product of 16-bit operands with a float32 result
        return x.float() if narrow and (self._widen or x.device.type == "cpu") else x

    def logits(
        self, h: Float[Tensor, "c d"], w: Float[Tensor, "k d"], out: Float[Tensor, "c k"]
    ) -> None:
        if h.dtype == out.dtype:
            torch.mm(h, w.T, out=out)
        else:
            torch.mm(h, w.T, out_dtype=out.dtype, out=out)

    def add(
        self, total: Float[Tensor, "m n"], x: Float[Tensor, "m k"], y: Float[Tensor, "k n"]
    ) -> None:
        if x.dtype == total.dtype:
            total.addmm_(x, y)
        else:
            torch.addmm(total, x, y, out_dtype=total.dtype, out=total)

    def write(
        self, out: Float[Tensor, "m n"], x: Float[Tensor, "m k"], y: Float[Tensor, "k n"]
    ) -> None:
        if x.itemsize == 2 and x.is_cuda:
            # with a 16-bit result cuBLAS may add up parts of the sum in 16 bits
            out.copy_(torch.mm(x, y, out_dtype=torch.float32))
        elif x.dtype == out.dtype:
            torch.mm(x, y, out=out)
        else:
            out.copy_(torch.mm(x, y))
