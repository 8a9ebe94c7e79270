import pytest
import torch

from rlnorm.losses.aggregate import AGGREGATES
from rlnorm.stages import resolve_stage
from rlnorm.types import LossDenominators

# rollout 0: 1 2 3 6; rollout 2: 5
VALUES = torch.tensor([1.0, 2.0, 3.0, 6.0, 5.0], dtype=torch.float64)
INDEX = torch.tensor([0, 0, 0, 0, 2])
COUNTS = LossDenominators(tokens=5, rollouts=2, horizon=10)


def aggregate(name, rows=slice(None), index=None, **options):
    columns = ("values", "rollout_index", "denominators")
    stage = resolve_stage("aggregate", {"name": name, **options}, AGGREGATES, columns)
    index = INDEX[rows] if index is None else index
    return stage({"values": VALUES[rows], "rollout_index": index, "denominators": COUNTS})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token-mean", 17 / 5),
        ("seq-mean-token-mean", (12 / (4 + 1e-8) + 5 / (1 + 1e-8)) / 2),
        ("seq-mean-token-sum", 17 / 2),
        ("seq-mean-token-sum-norm", 17 / 20),
        ("token-sum", 17.0),
    ],
)
def test_value_and_split_into_whole_rollouts(name, expected):
    assert aggregate(name).item() == pytest.approx(expected, abs=1e-12)
    parts = aggregate(name, slice(0, 4)) + aggregate(name, slice(4, 5), torch.tensor([0]))
    assert parts.item() == pytest.approx(expected, abs=1e-12)


def test_eps_is_an_option():
    assert aggregate("seq-mean-token-mean", eps=1.0).item() == (12 / 5 + 5 / 2) / 2


def test_a_loss_scale_factor_takes_the_place_of_the_horizon():
    # verl: sum / rollouts / factor
    assert aggregate("seq-mean-token-sum-norm", loss_scale_factor=100).item() == 17 / 2 / 100


@pytest.mark.parametrize("name", AGGREGATES)
def test_no_tokens_is_zero_and_keeps_a_graph(name):
    values = torch.zeros(0, requires_grad=True)
    columns = ("values", "rollout_index", "denominators")
    none = LossDenominators(tokens=0, rollouts=0, horizon=0)
    data = {"values": values, "rollout_index": INDEX[:0], "denominators": none}
    loss = resolve_stage("aggregate", name, AGGREGATES, columns)(data)
    assert loss.item() == 0.0
    loss.backward()
