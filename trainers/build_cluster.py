"""Builds the parts of a run that are Ray actors: vLLM engines, DeepSpeed ranks, reward workers."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from rlnorm.rewards.registry import default_workers
from rlnorm.trainers.cluster.ray import Cluster, EventHandler
from rlnorm.trainers.cluster.reward_nodes import NodePools, own_address
from rlnorm.trainers.config.resolve import pinned_model
from rlnorm.trainers.config.schema import Config
from rlnorm.trainers.learner.build import start_embedded_learner
from rlnorm.trainers.learner.types import Learner
from rlnorm.trainers.prepare import Prepared
from rlnorm.trainers.record.run_dir import RunDir
from rlnorm.trainers.rollout.types import RolloutPool
from rlnorm.trainers.stop import restore_handlers
from rlnorm.trainers.sync import ClusterChannel, WeightChannel


async def build_cluster_systems(
    prepared: Prepared, run_dir: RunDir, probe: list[tuple[int, ...]], stack: AsyncExitStack
) -> tuple[Learner, RolloutPool, WeightChannel]:
    """Start learner and pool concurrently and create the channel; `stack` closes them."""
    config = prepared.config
    started = time.monotonic()
    cluster = await asyncio.to_thread(Cluster.connect, address=config.cluster.address)
    restore_handlers()
    stack.callback(cluster.close)
    use_gpu = cluster.gpus > 0
    pool = vllm_pool(config, cluster, _events(run_dir))
    if config.learner.backend == "deepspeed":
        learner = _ranks(prepared, run_dir, cluster, use_gpu)
        stack.push_async_callback(learner.close)
        stack.push_async_callback(pool.close)
        await asyncio.gather(learner.start(), pool.start())
    else:
        learner = await start_embedded_learner(
            config, prepared.algorithm, prepared.tokenizer, run_dir.path / "faults", stack
        )
        stack.push_async_callback(pool.close)
        await pool.start()
    reward_workers = await _place_rewards(prepared, run_dir, pool.nodes, stack)
    run_dir.log_event(
        "cluster_started",
        seconds=time.monotonic() - started,
        engines=list(pool.nodes),
        ranks=list(getattr(learner, "nodes", ())),
        reward_workers=reward_workers,
    )
    channel = ClusterChannel(
        probe=probe, temperature=config.rollout.temperature, on_event=_events(run_dir)
    )
    return learner, pool, channel


async def _place_rewards(
    prepared: Prepared, run_dir: RunDir, engines: Sequence[str], stack: AsyncExitStack
) -> dict[str, int]:
    """Run rewards on the nodes of the engines, unless all engines are on this node.

    Returns the maximum number of worker processes of each node.
    """
    nodes, here = tuple(dict.fromkeys(engines)), own_address()
    if nodes == (here,):
        return {here: default_workers()}
    pools = NodePools(
        nodes,
        memory_mb=prepared.scorer.memory_mb,
        start_deadline_s=prepared.config.rollout.deadline_s,
        on_event=_events(run_dir),
    )
    stack.push_async_callback(asyncio.to_thread, pools.close)
    prepared.scorer.run_on(pools)
    await pools.start()
    return pools.workers_by_node


def vllm_pool(config: Config, cluster: Cluster, on_event: EventHandler) -> Any:
    """The config's engines with its model, not yet started; for training and `rlnorm eval`."""
    from rlnorm.trainers.rollout.vllm_pool import VllmPool

    use_gpu = cluster.gpus > 0
    return VllmPool(
        pinned_model(config.model).path,
        cluster=cluster,
        engines=config.rollout.engines,
        tensor_parallel_size=config.rollout.tensor_parallel_size,
        dtype=config.model.dtype,
        engine_options=config.rollout.engine_options,
        use_gpu=use_gpu,
        # only ranks on GPUs can send directly to engines
        transfer="nccl" if use_gpu and config.learner.backend == "deepspeed" else "object_store",
        deadline_s=config.rollout.deadline_s,
        on_event=on_event,
    )


def _ranks(prepared: Prepared, run_dir: RunDir, cluster: Cluster, use_gpu: bool) -> Any:
    from rlnorm.trainers.learner.deepspeed_learner import DeepSpeedLearner

    config = prepared.config
    return DeepSpeedLearner(
        pinned_model(config.model),
        config.learner,
        prepared.algorithm,
        cluster=cluster,
        seed=config.seed,
        faults=run_dir.path / "faults",
        use_gpu=use_gpu,
        deadline_s=config.rollout.deadline_s,
    )


def _events(run_dir: RunDir) -> EventHandler:
    return lambda event: run_dir.log_event(**event)
