"""The return type of a regularizer that replaces the policy loss on some tokens."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Replacement:
    """Loss that replaces the policy loss where `where` is True."""

    values: Float[Tensor, " t"]
    where: Bool[Tensor, " t"]
