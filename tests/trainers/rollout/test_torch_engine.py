"""The cache and the waves of the torch engine; what it samples: test_engine.py."""

import torch
from transformers.cache_utils import DynamicCache

from rlnorm.trainers.rollout.torch_engine import RoomyLayer, _drop_rows


def rows(*values):
    """[b, 1, 1, 1] states of one token."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_tokens_are_appended_within_the_room():
    layer = RoomyLayer(room=3)
    layer.update(rows(1.0, 2.0), rows(-1.0, -2.0))
    keys, values = layer.update(rows(3.0, 4.0), rows(-3.0, -4.0))
    assert keys.flatten().tolist() == [1, 3, 2, 4]
    assert values.flatten().tolist() == [-1, -3, -2, -4]


def test_the_last_live_rows_take_the_places_of_finished_ones():
    cache = DynamicCache()
    cache.layers = [RoomyLayer(room=2)]
    cache.layers[0].update(rows(0.0, 1.0, 2.0, 3.0, 4.0), rows(0.0, 1.0, 2.0, 3.0, 4.0))
    # rows 1 and 3 are finished: three are left, and row 4 moves into place 1
    order = _drop_rows(cache, torch.tensor([True, False, True, False, True]))
    assert order.tolist() == [0, 4, 2]
    assert cache.layers[0].keys.flatten().tolist() == [0, 4, 2]


def test_a_prompts_row_is_repeated_for_its_seeds():
    layer = RoomyLayer(room=1)
    layer.update(rows(7.0, 8.0), rows(7.0, 8.0))
    layer.reorder_cache(torch.tensor([0, 0, 1]))
    assert layer.keys.flatten().tolist() == [7, 7, 8]
