"""What the driver does alone; with ranks: tests/trainers/cluster/test_learner.py."""

import dataclasses

import pytest
import torch

from rlnorm.algorithms import resolve_algorithm
from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.learner.deepspeed_learner import DeepSpeedLearner, _shortest_trained
from rlnorm.trainers.learner.packing import deal


def driver(folder, **options):
    learner = LearnerConfig(ranks=2, tokens_per_microbatch=8)
    model, algorithm = ModelConfig(path="m"), resolve_algorithm("grpo")
    return DeepSpeedLearner(
        model, learner, algorithm, cluster=None, seed=0, faults=folder, **options
    )


@pytest.fixture
def learner(tmp_path):
    return driver(tmp_path)


def test_every_rank_runs_as_many_microbatches_as_the_busiest(learner, batch_of):
    batch = batch_of(((1,) * 3, (1,) * 3, (1,) * 6))
    shares = learner._shares(batch, [torch.tensor([0, 1, 2]), torch.tensor([], dtype=torch.long)])
    # 3 + 3 fit into 8, with 6 more they do not
    assert [share.microbatches for share in shares] == [2, 2]
    assert shares[1].batch is None
    assert len(shares[0].batch.token_ids) == 12
    dealt = learner._shares(batch, deal(batch, 2))
    assert [share.microbatches for share in dealt] == [1, 1]


def test_the_filler_is_the_shortest_rollout_that_trains(batch_of):
    batch = batch_of(((1,) * 5, (1,) * 2, (1,) * 3))
    assert _shortest_trained(batch).tolist() == [1]
    untrained = batch.loss_mask & (batch.rollout_index != 1)
    assert _shortest_trained(dataclasses.replace(batch, loss_mask=untrained)).tolist() == [2]


def test_a_cpu_rank_sees_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    got = driver(tmp_path, use_gpu=False)._env
    assert got == {"OMP_NUM_THREADS": "3", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    got = driver(tmp_path, use_gpu=True)._env
    assert got == {"OMP_NUM_THREADS": "3", "DS_ACCELERATOR": "cuda"}
