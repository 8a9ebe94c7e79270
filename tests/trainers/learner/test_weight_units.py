import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from rlnorm.trainers.learner.weight_units import weight_units


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(2, 3, bias=False), nn.Linear(3, 2)
        self.tied = self.up

    def forward(self, x):
        return self.down(self.up(x))


def test_every_weight_comes_once_by_its_name():
    units = list(weight_units(Tiny()))
    assert [(u.name, u.shape, u.nbytes) for u in units] == [
        ("up.weight", (3, 2), 24), ("down.weight", (2, 3), 24), ("down.bias", (2,), 8),
    ]  # fmt: skip


def test_adapters_are_merged_into_a_copy():
    model = get_peft_model(Tiny(), LoraConfig(r=1, lora_alpha=2, target_modules=["down"]))
    layer = model.get_base_model().down
    with torch.no_grad():
        layer.base_layer.weight.zero_()
        layer.lora_A["default"].weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
        layer.lora_B["default"].weight.copy_(torch.tensor([[1.0], [10.0]]))
    units = {unit.name: unit for unit in weight_units(model)}
    assert set(units) == {"up.weight", "down.weight", "down.bias"}
    # alpha / r = 2 times B A
    assert units["down.weight"].value().tolist() == [[2, 4, 6], [20, 40, 60]]
    assert not layer.base_layer.weight.any()
    assert len(units["down.weight"].parameters) == 3
