import random

import pytest
import torch

from rlnorm.trainers.config.load import load_config
from rlnorm.trainers.learner.build import build_device, seed_everything


@pytest.fixture
def restored():
    yield
    torch.use_deterministic_algorithms(False)


def drawn():
    return random.random(), torch.rand(3).tolist()


def test_one_seed_repeats_what_both_libraries_draw(restored, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    config = load_config("graded", ["seed=5", "deterministic=true"])
    seed_everything(config)
    first = drawn()
    assert torch.are_deterministic_algorithms_enabled()
    seed_everything(config.model_copy(update={"deterministic": False}))
    assert drawn() == first
    assert not torch.are_deterministic_algorithms_enabled()
    seed_everything(config.model_copy(update={"seed": 6}))
    assert drawn() != first


def test_the_gpu_where_there_is_one(monkeypatch):
    for available, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=available: there)
        assert build_device().type == kind
