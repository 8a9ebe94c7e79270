"""The learner of a cluster: DeepSpeed ranks in Ray actors, each in its own bundle.

The driver distributes rollouts over the ranks, gives every rank the same number of microbatches,
and sums their results; the denominators of the loss were computed before, on the complete batch.
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
    """A `Learner` of DeepSpeed ranks. If a rank dies, its ZeRO shards are lost and the run ends; it
    can be resumed from the last checkpoint."""

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
        deadline_s: float = 1800.0,
    ) -> None:
        """model.path: a folder or hub id that every node can read. faults: folder for batches of
        skipped steps. deadline_s: of the ranks' start and of each call."""
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
            # collectives time out before the driver does, so that the error names them
            "deadline_s": 0.9 * deadline_s,
        }
        self._bundle = {"CPU": 1.0, **({"GPU": 1.0} if use_gpu else {})}
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        on_cpu = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        self._env = threads | ({"DS_ACCELERATOR": "cuda"} if use_gpu else on_cpu)
        self._deadline_s = deadline_s
        self._actors: list[Any] = []

    async def start(self) -> None:
        """Reserve the bundles and start all ranks; returns when each has loaded its model."""
        ranks = self._config.ranks
        self._reservation = await asyncio.to_thread(
            self._cluster.reserve,
            [self._bundle] * ranks,
            what=f"learner.ranks = {ranks}",
            deadline_s=min(60.0, self._deadline_s),
        )
        self.nodes = self._reservation.nodes
        _pickle_plugins_by_value()
        for rank, node in enumerate(self.nodes):
            options = self._options | {"rank": rank, "node": node}
            actor = self._cluster.spawn(
                _RANK, options, reservation=self._reservation, bundle=rank, env=self._env
            )
            self._actors.append(actor)
        master = await self._master()
        built = [actor.build.remote(master=master) for actor in self._actors]
        await self._wait(built, "loading the model")

    async def score(self, batch: TokenBatch, want: frozenset[str]) -> Columns:
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
        """Loss and full gradients by name, without a step; for comparing learners."""
        shares = self._shares(batch, deal(batch, self._config.ranks))
        parts = await self._all("gradients", [(share,) for share in shares])
        return sum(loss for loss, _ in parts), parts[0][1]

    async def weight_refs(self, *, bucket_mb: float, dtype: torch.dtype) -> Publication:
        """Buckets of the current weights in the object store, put there by rank 0."""
        results = await self._each("put_weights", self.policy_version, bucket_mb, dtype)
        refs, digests = results[0]
        return Publication(version=self.policy_version, refs=tuple(refs), digests=digests)

    async def weights(self) -> AsyncIterator[list[tuple[str, Tensor]]]:
        publication = await self.weight_refs(bucket_mb=256.0, dtype=self._dtype)
        for ref in publication.refs:
            bucket = await self._wait([ref], "a bucket of weights")
            yield list(unpack(bucket[0]))

    async def connect_device(self, pool: VllmPool) -> None:
        """Join ranks and engines for vLLM's own weight transfer between GPUs."""
        options = {
            "backend": pool.transfer,
            "engines": pool.actors,
            "tensor_parallel_size": pool.tensor_parallel_size,
            "dtype": pool.weight_dtype,
            "master": await self._master(),
            "deadline_s": pool.deadline_s,
        }
        await self._each("connect_device", options)

    async def send_device(self) -> tuple[Mapping[str, str], Mapping[str, tuple[int, ...]]]:
        """Send the weights to all engines; returns digests and shapes of the sampled tensors."""
        sent: list[tuple[Mapping[str, str], Mapping[str, tuple[int, ...]]]]
        sent = await self._each("send_device", self.policy_version)
        return sent[0]

    async def save(self, folder: Path) -> None:
        """See `Learner.save`; with several nodes the folder must be on shared storage."""
        await self._each("save", str(folder.resolve()), {"policy_version": self.policy_version})
        if not (folder / "trainer_state" / "learner.json").is_file():
            raise ClusterError(
                f"checkpoint {folder}: rank 0 on {self.nodes[0]} wrote to another disk; put "
                "output_dir on storage that all nodes share"
            )

    async def load(self, folder: Path) -> None:
        """See `Learner.load`; the number of ranks and the ZeRO stage must be the same as saved."""
        saved = json.loads((folder / "trainer_state" / "learner.json").read_text())
        for name, key in (("ranks", "world_size"), ("zero_stage", "zero_stage")):
            if saved[key] != (here := getattr(self._config, name)):
                raise ClusterError(
                    f"learner.{name} = {here}: the checkpoint {folder} was saved with {saved[key]}"
                )
        await self._each("load", str(folder.resolve()))
        self.policy_version = saved["policy_version"]

    async def close(self) -> None:
        if self._actors:
            self._cluster.kill(self._actors)
            self._actors = []
            self._cluster.release(self._reservation)

    def _shares(self, batch: TokenBatch, owned: Sequence[Int[Tensor, " _"]]) -> list[RankShare]:
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
        return await self._wait(refs, method)

    async def _each(self, method: str, *args: Any) -> list[Any]:
        return await self._all(method, [args] * self._config.ranks)

    async def _master(self) -> tuple[str, int]:
        """Address and a free port of rank 0."""
        port = await self._wait([self._actors[0].free_port.remote()], "a port for rank 0")
        return self.nodes[0], port[0]

    async def _wait(self, refs: Sequence[Any], what: str) -> list[Any]:
        label = f"{self._config.ranks} DeepSpeed ranks on {', '.join(sorted(set(self.nodes)))}"
        return await wait_for(refs, deadline_s=self._deadline_s, what=f"{label}: {what}")


def _pickle_plugins_by_value() -> None:
    """Send stages of `file.py:function` as code, since other processes cannot import the file."""
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
