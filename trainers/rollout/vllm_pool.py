"""The rollout pool of a cluster: vLLM engines in Ray actors, each in its own bundle."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlnorm.trainers.cluster.buckets import bucket_digests, pack_buckets, sample_names, shapes_of
from rlnorm.trainers.cluster.ray import ActorLost, Cluster, ClusterError, EventHandler, wait_for
from rlnorm.trainers.rollout.types import GenerateRequest, Logprobs
from rlnorm.trainers.rollout.vllm_messages import EngineInfo, RawCompletion
from rlnorm.types import Completion, FinishReason

_ENGINE = "rlnorm.trainers.rollout.vllm_engine:Engine"
BUCKET_MB = 64.0
"""Weights are sent to engines in buckets of this size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """One version of the weights in the object store; kept until the next version replaces it."""

    version: int
    refs: tuple[Any, ...]
    digests: Mapping[str, str]
    """Digests of the sampled tensors, computed by the sender."""


class VllmPool:
    """A `RolloutPool` of vLLM engines. If an engine dies it is restarted with the last published
    weights, and its call is repeated; if it dies again in the same call, that is an error."""

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
        transfer: str = "object_store",
        deadline_s: float = 1800.0,
        on_event: EventHandler = lambda event: None,
    ) -> None:
        """model: a folder or hub id that every node can read. transfer: object_store, or vLLM's own
        nccl or ipc between GPUs. deadline_s: of an engine's start and of each call. on_event:
        called when an engine dies and when it was restarted.
        """
        if transfer not in ("object_store", "nccl", "ipc"):
            raise ValueError(f"transfer = {transfer!r}: choose from object_store, nccl, ipc")
        self.policy_version = 0
        self.transfer = transfer
        self.deadline_s = deadline_s
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
        self._bundle = {"CPU": 1.0, **gpus}
        self._env = _environment(use_gpu)
        self._on_event = on_event
        self._actors: list[Any] = []
        self._infos: list[EngineInfo] = []
        self._published: Publication | None = None

    @property
    def actors(self) -> list[Any]:
        """The engines' actor handles, for transfers directly from ranks to engines."""
        return list(self._actors)

    @property
    def weight_dtype(self) -> torch.dtype:
        """Type of the engines' weights."""
        dtype: torch.dtype = getattr(torch, self._infos[0].dtype)
        return dtype

    async def start(self) -> None:
        """Reserve the bundles and start all engines; returns when each can sample."""
        self._reservation = await asyncio.to_thread(
            self._cluster.reserve,
            [self._bundle] * self._count,
            what=f"rollout.engines = {self._count}",
            deadline_s=min(60.0, self.deadline_s),
        )
        self.nodes = self._reservation.nodes
        self._actors = [self._spawn(i) for i in range(self._count)]
        self._infos = await asyncio.gather(*(self._load(i) for i in range(self._count)))

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[list[Completion]]:
        longest = self._infos[0].max_model_len
        for request in requests:
            if len(request.prompt_ids) >= longest:
                raise ValueError(
                    f"prompt of {len(request.prompt_ids)} tokens: the engine's context "
                    f"(max_model_len) is {longest}, at least one token must be left to sample"
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
        """See `RolloutPool.score`; the result of the first engine."""
        return (await self.score_each(sequences, temperature))[0]

    async def score_each(
        self, sequences: Sequence[tuple[int, ...]], temperature: float
    ) -> list[list[Logprobs]]:
        """The results of every engine, so that each can be compared with the learner."""
        calls = (
            self._call(i, "score", list(sequences), temperature, what="parity probe")
            for i in range(self._count)
        )
        return [[torch.tensor(x) for x in one] for one in await asyncio.gather(*calls)]

    async def load_weights(self, weights: Iterable[tuple[str, Tensor]], version: int) -> int:
        """See `RolloutPool.load_weights`; one call per engine. Returns how many digests matched."""
        import ray

        buckets = list(pack_buckets(weights, bucket_mb=BUCKET_MB, dtype=self.weight_dtype))
        names = sample_names(list(shapes_of(buckets)), version)
        digests = bucket_digests(buckets, names)
        refs = tuple(ray.put(bucket) for bucket in buckets)
        await self.adopt(Publication(version=version, refs=refs, digests=digests))
        return len(digests)

    async def adopt(self, publication: Publication) -> None:
        """Load a publication from the object store into every engine.

        Raises ClusterError if the digest of a tensor differs from the sender's.
        """
        self._published = publication
        await asyncio.gather(*(self._retry(i, self._receive) for i in range(self._count)))
        self.policy_version = publication.version

    async def installed(self, shapes: Mapping[str, tuple[int, ...]]) -> list[dict[str, str]]:
        """After a device transfer: clear cached prefixes; digests of parameters, per engine."""
        asked = (
            self._ask(i, "installed", dict(shapes), what="checksums") for i in range(self._count)
        )
        return list(await asyncio.gather(*asked))

    async def close(self) -> None:
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
        await wait_for([started], deadline_s=self.deadline_s, what=what)
        info: EngineInfo = await self._ask(i, "info", what="info")
        return info

    async def _ask(self, i: int, method: str, *args: Any, what: str) -> Any:
        ref = self._actors[i].call.remote(method, *args)
        label = f"engine {i} on {self._reservation.nodes[i]}: {what}"
        return (await wait_for([ref], deadline_s=self.deadline_s, what=label))[0]

    async def _call(self, i: int, method: str, *args: Any, what: str) -> Any:
        return await self._retry(i, lambda i: self._ask(i, method, *args, what=what))

    async def _retry(self, i: int, once: Callable[[int], Awaitable[Any]]) -> Any:
        """Run `once`; if the engine dies, restart it and run `once` again."""
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
                f"engine {i} died: with transfer {self.transfer!r} weights cannot be sent to a "
                "single engine; resume the run from its last checkpoint"
            )
        self._cluster.kill([self._actors[i]])
        self._actors[i] = self._spawn(i)
        self._infos[i] = await self._load(i)
        if self._published is not None:
            await self._receive(i)

    async def _receive(self, i: int) -> None:
        sent = self._published
        assert sent is not None, "nothing was published"
        names, what = tuple(sent.digests), f"weights of version {sent.version}"
        got = await self._ask(i, "load", list(sent.refs), names, self.deadline_s, what=what)
        wrong = sorted(n for n in names if got.get(n) != sent.digests[n])
        if wrong:
            raise ClusterError(
                f"engine {i}: {what}: {len(wrong)} of {len(names)} sampled tensors differ from "
                f"what the learner sent, {wrong[0]} first"
            )


def _environment(use_gpu: bool) -> dict[str, str]:
    """Variables that an engine's process needs before it imports anything."""
    env = {
        # FullVocabSampler extends the sampler of the V1 runner
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # all workers of an engine are on one node
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    if not use_gpu:
        env |= {
            "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "CUDA_VISIBLE_DEVICES": "",
        }
    return env


def _deal(requests: Sequence[GenerateRequest], engines: int) -> list[list[int]]:
    """Indices of each engine's requests: largest first, each to the least loaded engine."""
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
