"""What a regularizer may return when it takes the place of the policy loss on some tokens."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Replacement:
    """Loss that stands instead of the policy loss where `where` is True."""

    values: Float[Tensor, " t"]
    where: Bool[Tensor, " t"]
