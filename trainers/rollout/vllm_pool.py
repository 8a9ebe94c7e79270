"""The rollout pool of a cluster: vLLM engines in Ray actors, each pinned to its own bundle."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlnorm.trainers.cluster.buckets import bucket_digests, pack_buckets, sample_names, shapes_of
from rlnorm.trainers.cluster.ray import ActorLost, Cluster, ClusterError, EventSink, wait_for
from rlnorm.trainers.rollout.types import GenerateRequest, Logprobs
from rlnorm.trainers.rollout.vllm_messages import EngineInfo, RawCompletion
from rlnorm.types import Completion, FinishReason

_ENGINE = "rlnorm.trainers.rollout.vllm_engine:Engine"


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """One version of the weights, kept in the object store until the next one replaces it."""

    version: int
    refs: tuple[Any, ...]
    digests: Mapping[str, str]
    """Of the sampled tensors, taken where the weights came from."""


class VllmPool:
    """See `RolloutPool`. An engine that dies is started again once, given the last published
    weights and asked again; the second death of the same call is an error."""

    def __init__(
        self,
        model: str,
        *,
        cluster: Cluster,
        engines: int = 1,
        tensor_parallel_size: int = 1,
        dtype: str = "float32",
        engine_options: Mapping[str, Any] | None = None,
        use_gpu: bool = False,
        cpus_per_engine: float = 1.0,
        strategy: str = "SPREAD",
        transfer: str = "object_store",
        bucket_mb: float = 64.0,
        start_deadline_s: float = 600.0,
        call_deadline_s: float = 1800.0,
        sync_deadline_s: float = 120.0,
        on_event: EventSink = lambda event: None,
    ) -> None:
        """model: a folder or hub id that every node can read.

        transfer: object_store, or vLLM's own nccl or ipc between GPUs. on_event gets every death
        and restart.
        """
        if transfer not in ("object_store", "nccl", "ipc"):
            raise ValueError(f"transfer = {transfer!r}: choose from object_store, nccl, ipc")
        self.policy_version = 0
        self.transfer = transfer
        self.bucket_mb = bucket_mb
        self.sync_deadline_s = sync_deadline_s
        self.tensor_parallel_size = tensor_parallel_size
        self.nodes: tuple[str, ...] = ()
        self._cluster = cluster
        self._count = engines
        self._options = {
            "model": model,
            "dtype": dtype,
            "tensor_parallel_size": tensor_parallel_size,
            "transfer": transfer,
            "engine_options": dict(engine_options or {}),
        }
        gpus = {"GPU": float(tensor_parallel_size)} if use_gpu else {}
        self._bundle = {"CPU": cpus_per_engine, **gpus}
        self._env = _environment(use_gpu, cpus_per_engine)
        self._strategy = strategy
        self._start_deadline_s = start_deadline_s
        self._call_deadline_s = call_deadline_s
        self._on_event = on_event
        self._actors: list[Any] = []
        self._infos: list[EngineInfo] = []
        self._published: Publication | None = None

    @property
    def actors(self) -> list[Any]:
        """The engines' actor handles, for a transfer that goes from rank to engine directly."""
        return list(self._actors)

    @property
    def weight_dtype(self) -> torch.dtype:
        """Type in which the engines hold the weights."""
        dtype: torch.dtype = getattr(torch, self._infos[0].dtype)
        return dtype

    async def start(self) -> None:
        """Reserve the bundles, start all engines at once, wait until each can sample."""
        self._reservation = await asyncio.to_thread(
            self._cluster.reserve,
            [self._bundle] * self._count,
            what=f"rollout.engines = {self._count}",
            strategy=self._strategy,
            deadline_s=min(60.0, self._start_deadline_s),
        )
        self.nodes = self._reservation.nodes
        self._actors = [self._spawn(i) for i in range(self._count)]
        self._infos = await asyncio.gather(*(self._load(i) for i in range(self._count)))

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[list[Completion]]:
        """See `RolloutPool.generate`."""
        longest = self._infos[0].max_model_len
        for request in requests:
            if len(request.prompt_ids) >= longest:
                raise ValueError(
                    f"prompt of {len(request.prompt_ids)} tokens: the engine's context "
                    f"(max_model_len) is {longest}, one token at least must be left to sample"
                )
        version = self.policy_version
        shares = _deal(requests, self._count)
        answers = await asyncio.gather(
            *(
                self._call(i, "generate", [requests[j] for j in share], what="rollouts")
                for i, share in enumerate(shares)
                if share
            )
        )
        raw = {
            j: group
            for share, answer in zip((s for s in shares if s), answers, strict=True)
            for j, group in zip(share, answer, strict=True)
        }
        return [[_completion(one, version) for one in raw[j]] for j in range(len(requests))]

    async def score(
        self, sequences: Sequence[tuple[int, ...]], temperature: float
    ) -> list[Logprobs]:
        """See `RolloutPool.score`; the answer of the first engine."""
        return (await self.score_each(sequences, temperature))[0]

    async def score_each(
        self, sequences: Sequence[tuple[int, ...]], temperature: float
    ) -> list[list[Logprobs]]:
        """The same by every engine, so that each can be compared with the learner."""
        calls = (
            self._call(i, "score", list(sequences), temperature, what="parity probe")
            for i in range(self._count)
        )
        return [[torch.tensor(x) for x in one] for one in await asyncio.gather(*calls)]

    async def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> int:
        """See `RolloutPool.load_weights`: packs here, then one call an engine. Returns how many
        tensors' digests were compared."""
        import ray

        buckets = list(pack_buckets(weights, bucket_mb=self.bucket_mb, dtype=self.weight_dtype))
        names = sample_names(list(shapes_of(buckets)), version)
        digests = bucket_digests(buckets, names)
        refs = tuple(ray.put(bucket) for bucket in buckets)
        await self.adopt(Publication(version=version, refs=refs, digests=digests))
        return len(digests)

    async def adopt(self, publication: Publication) -> None:
        """Load a publication that already lies in the object store into every engine.

        Raises ClusterError when the digest of a tensor differs from the sender's.
        """
        self._published = publication
        await asyncio.gather(*(self._retry(i, self._receive) for i in range(self._count)))
        self.policy_version = publication.version

    async def installed(self, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, str]]:
        """After a device transfer: forget prefixes; digests of whole parameters, per engine."""
        found: list[dict[str, str]] = await asyncio.gather(
            *(
                self._ask(
                    i, "installed", dict(shapes), what="checksums", limit=self.sync_deadline_s
                )
                for i in range(self._count)
            )
        )
        return found

    async def close(self) -> None:
        """End the engines and give their bundles back."""
        if self._actors:
            self._cluster.kill(self._actors)
            self._actors = []
            self._cluster.release(self._reservation)
        self._published = None

    def _spawn(self, i: int) -> Any:
        options = self._options | {"node": self._reservation.nodes[i]}
        return self._cluster.spawn(
            _ENGINE, options, reservation=self._reservation, bundle=i, env=self._env
        )

    async def _load(self, i: int) -> EngineInfo:
        """Build engine i in its process and return its EngineInfo."""
        what = f"engine {i} on {self._reservation.nodes[i]} loading {self._options['model']}"
        started = self._actors[i].build.remote()
        await wait_for([started], deadline_s=self._start_deadline_s, what=what)
        info: EngineInfo = await self._ask(i, "info", what="facts", limit=60.0)
        return info

    async def _ask(self, i: int, method: str, *args: Any, what: str, limit: float) -> Any:
        ref = self._actors[i].call.remote(method, *args)
        label = f"engine {i} on {self._reservation.nodes[i]}: {what}"
        return (await wait_for([ref], deadline_s=limit, what=label))[0]

    async def _call(self, i: int, method: str, *args: Any, what: str) -> Any:
        async def once(i: int) -> Any:
            return await self._ask(i, method, *args, what=what, limit=self._call_deadline_s)

        return await self._retry(i, once)

    async def _retry(self, i: int, once: Callable[[int], Awaitable[Any]]) -> Any:
        """Run `once`; when the engine dies under it, start it again and run `once` again."""
        try:
            return await once(i)
        except ActorLost as lost:
            self._on_event({"event": "engine_died", "engine": i, "cause": str(lost)})
            began = time.monotonic()
            await self._revive(i)
            took = time.monotonic() - began
            self._on_event({"event": "engine_restarted", "engine": i, "seconds": took})
            return await once(i)

    async def _revive(self, i: int) -> None:
        if self.transfer != "object_store" and self.policy_version:
            raise ClusterError(
                f"engine {i} died: with transfer {self.transfer!r} its weights cannot be sent "
                "again alone; resume the run from its last checkpoint"
            )
        self._cluster.kill([self._actors[i]])
        self._actors[i] = self._spawn(i)
        self._infos[i] = await self._load(i)
        if self._published is not None:
            await self._receive(i)

    async def _receive(self, i: int) -> None:
        sent = self._published
        assert sent is not None, "nothing was published"
        names, limit = tuple(sent.digests), self.sync_deadline_s
        what = f"weights of version {sent.version}"
        got = await self._ask(i, "load", list(sent.refs), names, limit, what=what, limit=limit)
        wrong = sorted(n for n in names if got.get(n) != sent.digests[n])
        if wrong:
            raise ClusterError(
                f"engine {i}: {what}: {len(wrong)} of {len(names)} sampled tensors differ from "
                f"what the learner sent, {wrong[0]} first"
            )


def _environment(use_gpu: bool, cpus: float) -> dict[str, str]:
    """Set before anything is imported in the engine's process."""
    env = {
        # the V1 runner's sampler is the one that FullVocabSampler extends
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # an engine's workers share one node, whatever interfaces that node has
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    if not use_gpu:
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, int(cpus))))
        env |= {
            "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": threads,
            "CUDA_VISIBLE_DEVICES": "",
        }
    return env


def _deal(requests: Sequence[GenerateRequest], engines: int) -> list[list[int]]:
    """Indices of the requests of each engine: the largest first, each to the least loaded."""
    work = [len(r.prompt_ids) + len(r.seeds) * r.sampling.max_tokens for r in requests]
    shares: list[list[int]] = [[] for _ in range(engines)]
    load = [0] * engines
    for j in sorted(range(len(requests)), key=lambda j: -work[j]):
        i = load.index(min(load))
        shares[i].append(j)
        load[i] += work[j]
    return shares


def _completion(raw: RawCompletion, version: int) -> Completion:
    length = len(raw.token_ids)
    return Completion(
        token_ids=torch.tensor(raw.token_ids),
        sampler_logprobs=torch.tensor(raw.logprobs),
        policy_mask=torch.ones(length, dtype=torch.bool),
        turn_index=torch.zeros(length, dtype=torch.int64),
        finish_reason=FinishReason.STOP if raw.stopped else FinishReason.LENGTH,
        policy_versions=((0, version),),
    )
