"""One Ray cluster a module, on this machine; ended with the module."""

import asyncio
import gc
import warnings
from collections.abc import Iterator

import pytest
import torch

from rlnorm.types import LossDenominators, TokenBatch


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[object]:
    from trainers.cluster import Cluster

    cluster = Cluster.connect(object_store_mb=200)
    yield cluster
    cluster.close()
    with warnings.catch_warnings():
        # Ray drops the handles of the processes it has ended without waiting for them
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def run() -> Iterator[object]:
    """Run a coroutine to its end; one event loop a module."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture(scope="module")
def make_learner(ray_cluster, run, tmp_path_factory) -> Iterator[object]:
    """A started DeepSpeed learner on the shipped quick model; ended with the module."""
    from rlnorm.algorithms import resolve_algorithm
    from trainers.config import LearnerConfig, ModelConfig
    from trainers.learner.deepspeed_learner import DeepSpeedLearner

    made = []

    def make(*, lora_rank: int = 0, **options: object) -> DeepSpeedLearner:
        learner = DeepSpeedLearner(
            ModelConfig(path="shipped:quick", lora_rank=lora_rank),
            LearnerConfig(lr=1e-3, weight_decay=0.1, **options),
            resolve_algorithm(
                "grpo", {"regularizers": [{"name": "kl", "kind": "k3", "coef": 0.04}]}
            ),
            cluster=ray_cluster,
            seed=0,
            faults=tmp_path_factory.mktemp("faults"),
            start_deadline_s=180.0,
            step_deadline_s=120.0,
        )
        made.append(learner)
        run(learner.start())
        return learner

    yield make
    for learner in made:
        run(learner.close())


@pytest.fixture(scope="module")
def batch() -> TokenBatch:
    """Seven rollouts of 6 to 29 random tokens, the first three of each a prompt, with every column
    that the loss asks for; random old logprobs make ratios on both sides of the clip."""
    g = torch.Generator().manual_seed(0)
    lengths = torch.randint(6, 30, (7,), generator=g)
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rollout_index = torch.repeat_interleave(torch.arange(7), lengths)
    positions = torch.arange(int(cu_seqlens[-1])) - cu_seqlens[rollout_index]
    mask = positions >= 3
    noise = torch.randn(4, len(positions), generator=g)
    columns = {
        "advantages": noise[0],
        "old_logprobs": -6 - noise[1].abs(),
        "sampler_logprobs": -6 - noise[2].abs(),
        "ref_logprobs": -6 - noise[3].abs(),
    }
    return TokenBatch(
        token_ids=torch.randint(0, 200, (len(positions),), generator=g),
        positions=positions,
        rollout_index=rollout_index,
        cu_seqlens=cu_seqlens,
        loss_mask=mask,
        columns={name: column.where(mask, 0.0) for name, column in columns.items()},
        temperature=0.9,
        denominators=LossDenominators(tokens=int(mask.sum()), rollouts=7, horizon=32),
    )
