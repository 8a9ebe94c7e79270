"""The learner of a cluster: DeepSpeed ranks in Ray actors, each pinned to its own bundle.

The driver deals whole rollouts to ranks, tells every rank how many microbatches all of them run,
and adds up what they return; the denominators of the loss were fixed before, on the whole batch.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from rlnorm.algorithms import Algorithm
from rlnorm.trainers.cluster.buckets import unpack
from rlnorm.trainers.cluster.ray import Cluster, ClusterError, wait_for
from rlnorm.trainers.config.schema import LearnerConfig, ModelConfig
from rlnorm.trainers.learner.core import save_fault
from rlnorm.trainers.learner.packing import deal, microbatches, take_rollouts, token_index
from rlnorm.trainers.learner.shares import RankShare
from rlnorm.trainers.learner.types import Columns
from rlnorm.trainers.models import DTYPES
from rlnorm.trainers.rollout.vllm_pool import Publication, VllmPool
from rlnorm.types import StepResult, TokenBatch

_RANK = "rlnorm.trainers.learner.deepspeed_rank:Rank"


class DeepSpeedLearner:
    """See `Learner`. A rank that dies ends the run with its cause: ZeRO shards die with it, so the
    way on is the last checkpoint."""

    def __init__(
        self,
        model: ModelConfig,
        learner: LearnerConfig,
        algorithm: Algorithm,
        *,
        cluster: Cluster,
        seed: int,
        faults: Path,
        use_gpu: bool = False,
        cpus_per_rank: float = 1.0,
        strategy: str = "SPREAD",
        start_deadline_s: float = 600.0,
        step_deadline_s: float = 1800.0,
    ) -> None:
        """model.path: a folder or hub id that every node can read. faults: folder that receives the
        batch of a skipped step."""
        self.policy_version = 0
        self.nodes: tuple[str, ...] = ()
        self._config, self._dtype = learner, DTYPES[model.dtype]
        self._algorithm, self._cluster, self._faults = algorithm, cluster, faults
        self._options = {
            "model": model,
            "learner": learner,
            "algorithm": algorithm,
            "seed": seed,
            "world_size": learner.ranks,
            "use_gpu": use_gpu,
            # a collective gives up before the driver does, and so names itself
            "deadline_s": 0.9 * step_deadline_s,
        }
        self._bundle = {"CPU": cpus_per_rank, **({"GPU": 1.0} if use_gpu else {})}
        self._env = _environment(use_gpu, cpus_per_rank)
        self._strategy = strategy
        self._start_deadline_s, self._step_deadline_s = start_deadline_s, step_deadline_s
        self._actors: list[Any] = []

    async def start(self) -> None:
        """Reserve the bundles, start all ranks, wait until each holds its model and optimizer."""
        ranks = self._config.ranks
        self._reservation = await asyncio.to_thread(
            self._cluster.reserve,
            [self._bundle] * ranks,
            what=f"learner.ranks = {ranks}",
            strategy=self._strategy,
            deadline_s=min(60.0, self._start_deadline_s),
        )
        self.nodes = self._reservation.nodes
        _send_plugins_whole()
        for rank, node in enumerate(self.nodes):
            options = self._options | {"rank": rank, "node": node}
            actor = self._cluster.spawn(
                _RANK, options, reservation=self._reservation, bundle=rank, env=self._env
            )
            self._actors.append(actor)
        port = await self._wait([self._actors[0].free_port.remote()], "a port for rank 0", 60.0)
        master = (self.nodes[0], port[0])
        built = [actor.build.remote(master=master) for actor in self._actors]
        await self._wait(built, "loading the model", self._start_deadline_s)

    async def score(self, batch: TokenBatch, want: frozenset[str]) -> Columns:
        """See `Learner.score`."""
        owned = deal(batch, self._config.ranks)
        shares = self._shares(batch, owned)
        parts = await self._all("score", [(share, want) for share in shares])
        columns = {name: torch.zeros(len(batch.token_ids)) for name in want}
        for rollouts, part in zip(owned, parts, strict=True):
            if len(rollouts):
                tokens = token_index(batch, rollouts)
                for name, column in columns.items():
                    column[tokens] = part[name]
        return columns

    async def step(self, batch: TokenBatch, lr: float) -> StepResult:
        """See `Learner.step`."""
        shares = self._shares(batch, deal(batch, self._config.ranks))
        state = self._algorithm.state_dict()
        results = await self._all("step", [(share, lr, state) for share in shares])
        first = results[0]
        if first.skipped:
            save_fault(batch, self._faults, self.policy_version)
        else:
            self.policy_version += 1
        names = {name for result in results for name in result.metrics}
        return StepResult(
            policy_version=self.policy_version,
            loss=sum(result.loss for result in results),
            grad_norm=first.grad_norm,
            skipped=first.skipped,
            metrics={n: sum(r.metrics.get(n, 0.0) for r in results) for n in sorted(names)},
        )

    async def gradients(self, batch: TokenBatch) -> tuple[float, dict[str, Tensor]]:
        """Loss and whole gradients by name, without a step: to compare learners."""
        shares = self._shares(batch, deal(batch, self._config.ranks))
        parts = await self._all("gradients", [(share,) for share in shares])
        return sum(loss for loss, _ in parts), parts[0][1]

    async def weight_refs(self, *, bucket_mb: float, dtype: torch.dtype) -> Publication:
        """Buckets of the current weights, put into the object store by rank 0."""
        arguments = (self.policy_version, bucket_mb, dtype)
        results = await self._all("put_weights", [arguments] * self._config.ranks)
        refs, digests = results[0]
        return Publication(version=self.policy_version, refs=tuple(refs), digests=digests)

    async def weights(self) -> AsyncIterator[list[tuple[str, Tensor]]]:
        """See `Learner.weights`."""
        publication = await self.weight_refs(bucket_mb=256.0, dtype=self._dtype)
        for ref in publication.refs:
            bucket = await self._wait([ref], "a bucket of weights", self._step_deadline_s)
            yield list(unpack(bucket[0]))

    async def connect_device(self, pool: VllmPool) -> None:
        """Join ranks and engines for vLLM's own weight transfer between GPUs."""
        port = await self._wait([self._actors[0].free_port.remote()], "a port for rank 0", 60.0)
        options = {
            "backend": pool.transfer,
            "engines": pool.actors,
            "tensor_parallel_size": pool.tensor_parallel_size,
            "dtype": pool.weight_dtype,
            "master": (self.nodes[0], port[0]),
            "deadline_s": pool.sync_deadline_s,
        }
        await self._all("connect_device", [(options,)] * self._config.ranks)

    async def send_device(self) -> tuple[Mapping[str, str], Mapping[str, tuple[int, ...]]]:
        """Send the weights to all engines; digests and shapes of the sampled tensors."""
        version = (self.policy_version,)
        sent: list[tuple[Mapping[str, str], Mapping[str, tuple[int, ...]]]]
        sent = await self._all("send_device", [version] * self._config.ranks)
        return sent[0]

    async def save(self, folder: Path) -> None:
        """See `Learner.save`; with several nodes the folder must lie on storage they share."""
        state = {"policy_version": self.policy_version}
        await self._all("save", [(str(folder.resolve()), state)] * self._config.ranks)
        if not (folder / "trainer_state" / "learner.json").is_file():
            raise ClusterError(
                f"checkpoint {folder}: rank 0 on {self.nodes[0]} wrote it elsewhere; put "
                "output_dir on storage that all nodes share"
            )

    async def load(self, folder: Path) -> None:
        """See `Learner.load`. Refuses a checkpoint of other ranks or another ZeRO stage."""
        saved = json.loads((folder / "trainer_state" / "learner.json").read_text())
        for key, here in (
            ("world_size", self._config.ranks),
            ("zero_stage", self._config.zero_stage),
        ):
            if saved[key] != here:
                name = {"world_size": "ranks"}.get(key, key)
                raise ClusterError(
                    f"learner.{name} = {here}: the checkpoint {folder} was saved with {saved[key]}"
                )
        await self._all("load", [(str(folder.resolve()),)] * self._config.ranks)
        self.policy_version = saved["policy_version"]

    async def close(self) -> None:
        """End the ranks and give their bundles back."""
        if self._actors:
            self._cluster.kill(self._actors)
            self._actors = []
            self._cluster.release(self._reservation)

    def _shares(self, batch: TokenBatch, owned: Sequence[Int[Tensor, " _"]]) -> list[RankShare]:
        """Each rank's RankShare."""
        batches = [take_rollouts(batch, chosen) if len(chosen) else None for chosen in owned]
        budget = self._config.tokens_per_microbatch
        count = max(len(microbatches(b, budget)) for b in batches if b is not None)
        filler = take_rollouts(batch, _shortest_trained(batch))
        return [RankShare(batch=b, filler=filler, microbatches=count) for b in batches]

    async def _all(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        refs = [
            actor.call.remote(method, *args)
            for actor, args in zip(self._actors, arguments, strict=True)
        ]
        return await self._wait(refs, method, self._step_deadline_s)

    async def _wait(self, refs: Sequence[Any], what: str, deadline_s: float) -> list[Any]:
        label = f"{self._config.ranks} DeepSpeed ranks on {', '.join(sorted(set(self.nodes)))}"
        return await wait_for(refs, deadline_s=deadline_s, what=f"{label}: {what}")


def _send_plugins_whole() -> None:
    """A stage of `file.py:function` travels as its code: no other process has its module."""
    from ray import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith("rlnorm_plugin_"):
            cloudpickle.register_pickle_by_value(module)


def _shortest_trained(batch: TokenBatch) -> Int[Tensor, "1"]:
    lengths = batch.cu_seqlens.diff()
    trained = torch.zeros_like(lengths).index_add_(
        0, batch.rollout_index, batch.loss_mask.to(lengths.dtype)
    )
    return lengths.where(trained > 0, torch.iinfo(lengths.dtype).max).argmin()[None]


def _environment(use_gpu: bool, cpus: float) -> dict[str, str]:
    """Set before anything is imported in a rank's process."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, int(cpus))))
    env = {"OMP_NUM_THREADS": threads, "DS_ACCELERATOR": "cuda" if use_gpu else "cpu"}
    return env if use_gpu else env | {"CUDA_VISIBLE_DEVICES": ""}
