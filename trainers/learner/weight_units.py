"""The weights of a plain model one by one, whether the learner shards them or adapts them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from rlnorm.trainers.models import base_model, merged_layer


@dataclass(frozen=True, slots=True)
class WeightUnit:
    """One weight of the plain model: a parameter, or a LoRA layer's base with its adapters."""

    name: str
    layer: nn.Module | None
    base: nn.Parameter

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Parameters that must be gathered before `value` is called."""
        if self.layer is None:
            return [self.base]
        adapters = [p for n, p in self.layer.named_parameters() if n.startswith("lora_")]
        return [self.base, *adapters]

    @property
    def nbytes(self) -> int:
        """Bytes of the full weight."""
        return int(getattr(self.base, "ds_numel", self.base.numel())) * self.base.element_size()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the full weight, even if ZeRO-3 has sharded it."""
        return tuple(getattr(self.base, "ds_shape", self.base.shape))

    def value(self) -> Tensor:
        """The full weight: a merged copy with adapters, otherwise the parameter's own memory."""
        weight = self.base.detach()
        return weight if self.layer is None else merged_layer(self.layer, weight)


def weight_units(model: nn.Module) -> Iterator[WeightUnit]:
    """All weights by Hugging Face name; a tensor with two names appears once."""
    plain: nn.Module = base_model(model)
    layers = {name: m for name, m in plain.named_modules() if hasattr(m, "lora_A")}
    for name, parameter in plain.named_parameters():
        if ".lora_" in name:
            continue
        owner = None
        if name.endswith(".base_layer.weight"):
            owner = layers.get(name.removesuffix(".base_layer.weight"))
        yield WeightUnit(name.replace(".base_layer.", "."), owner, parameter)
