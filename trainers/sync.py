"""New weights from the learner to the pool, and the proof that they arrived.

Each publish carries a version, compares digests of sampled tensors on both sides, and scores fixed
tokens with the learner and with every engine (the parity probe). In one process the pool reads the
learner's own memory; in a cluster weights travel in buckets through the Ray object store, or
between GPUs through vLLM's own weight transfer.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rlnorm.types import LossDenominators, TokenBatch
from trainers.cluster import ClusterError, EventSink
from trainers.learner.types import Learner
from trainers.rollout.types import RolloutPool
from trainers.rollout.vllm_pool import Publication, VllmPool

ALARM = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""Mean |learner - sampler| logprob in nats above which a publish counts as wrong, by the dtype of
the sampler's weights: ten times and more above what rounding alone gives."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncReport:
    """What one publish did."""

    version: int
    seconds: float
    """Transfer and digests; the probe is apart."""
    probe_s: float
    tensors_checked: int
    parity_mean: float
    """Mean |learner - sampler| over the probe's tokens, of the engine that is furthest off."""
    parity_max: float


class WeightChannel(Protocol):
    """Brings the pool to the learner's version."""

    async def publish(self) -> SyncReport:
        """Send, check, probe. Raises when the pool does not hold the learner's weights after it."""
        ...


@runtime_checkable
class RefSource(Protocol):
    """A learner whose ranks put buckets into the object store themselves."""

    async def weight_refs(
        self, *, version: int, bucket_mb: float, dtype: torch.dtype
    ) -> Publication:
        """The buckets of the current weights, cast to dtype."""
        ...


@runtime_checkable
class DeviceSource(Protocol):
    """A learner whose ranks send weights to the engines' GPUs themselves."""

    async def connect_device(self, pool: VllmPool) -> None:
        """Join ranks and engines in one transfer group; once."""
        ...

    async def send_device(
        self, version: int
    ) -> tuple[Mapping[str, str], Mapping[str, tuple[int, ...]]]:
        """Start, update, finish on all engines; digests and shapes of sampled tensors."""
        ...


class SharedMemoryChannel:
    """Learner and pool in one process: the pool takes the tensors as they are."""

    def __init__(
        self,
        learner: Learner,
        pool: RolloutPool,
        *,
        probe: Sequence[tuple[int, ...]],
        temperature: float,
        alarm: float = ALARM["float32"],
    ) -> None:
        """probe: fixed token sequences, each of two tokens or more; none leaves the probe out."""
        self._learner, self._pool = learner, pool
        self._probe, self._temperature, self._alarm = probe, temperature, alarm

    async def publish(self) -> SyncReport:
        """See `WeightChannel.publish`."""
        started = time.monotonic()
        weights = [pair async for bucket in self._learner.weights() for pair in bucket]
        await self._pool.load_weights(weights, self._learner.policy_version)
        seconds = time.monotonic() - started
        started = time.monotonic()
        parity = (0.0, 0.0)
        if self._probe:
            theirs = await self._pool.score(self._probe, self._temperature)
            ours = await learner_logprobs(self._learner, self._probe, self._temperature)
            parity = gap(ours, [theirs])
        if not parity[0] <= self._alarm:
            raise ClusterError(_alarm_text(self._learner.policy_version, parity, self._alarm))
        return SyncReport(
            version=self._learner.policy_version,
            seconds=seconds,
            probe_s=time.monotonic() - started,
            tensors_checked=0,
            parity_mean=parity[0],
            parity_max=parity[1],
        )


class ClusterChannel:
    """Learner ranks to vLLM engines. A probe above the alarm is answered by one full resync, and by
    an error when that does not help."""

    def __init__(
        self,
        learner: Learner,
        pool: VllmPool,
        *,
        probe: Sequence[tuple[int, ...]],
        temperature: float,
        alarm: float | None = None,
        on_event: EventSink = lambda event: None,
    ) -> None:
        """alarm: nats; None for the one of the engines' dtype in `ALARM`."""
        self._learner, self._pool = learner, pool
        self._probe, self._temperature, self._alarm = probe, temperature, alarm
        self._on_event = on_event
        self._connected = False

    async def publish(self) -> SyncReport:
        """See `WeightChannel.publish`."""
        report = await self._once()
        alarm = self._limit()
        if report.parity_mean <= alarm:
            return report
        parity = (report.parity_mean, report.parity_max)
        self._on_event(
            {"event": "parity_alarm", "cause": _alarm_text(report.version, parity, alarm)}
        )
        report = await self._once()
        if report.parity_mean <= alarm:
            return report
        raise ClusterError(
            _alarm_text(report.version, (report.parity_mean, report.parity_max), alarm)
            + ", after a second transfer too"
        )

    def _limit(self) -> float:
        if self._alarm is not None:
            return self._alarm
        return ALARM[str(self._pool.weight_dtype).removeprefix("torch.")]

    async def _once(self) -> SyncReport:
        version = self._learner.policy_version
        started = time.monotonic()
        if self._pool.transfer == "object_store":
            checked = await self._through_store(version)
        else:
            checked = await self._through_device(version)
        seconds = time.monotonic() - started
        started = time.monotonic()
        ours, theirs = await asyncio.gather(
            learner_logprobs(self._learner, self._probe, self._temperature),
            self._pool.score_each(self._probe, self._temperature),
        )
        mean, largest = gap(ours, theirs)
        return SyncReport(
            version=version,
            seconds=seconds,
            probe_s=time.monotonic() - started,
            tensors_checked=checked,
            parity_mean=mean,
            parity_max=largest,
        )

    async def _through_store(self, version: int) -> int:
        if not isinstance(self._learner, RefSource):
            weights = [pair async for bucket in self._learner.weights() for pair in bucket]
            await self._pool.load_weights(weights, version)
            return 0
        publication = await self._learner.weight_refs(
            version=version, bucket_mb=self._pool.bucket_mb, dtype=self._pool.weight_dtype
        )
        await self._pool.adopt(publication)
        return len(publication.digests)

    async def _through_device(self, version: int) -> int:
        if not isinstance(self._learner, DeviceSource):
            raise ClusterError(
                f"transfer = {self._pool.transfer!r}: needs learner.backend deepspeed on GPUs; "
                "use object_store with this learner"
            )
        if not self._connected:
            await self._learner.connect_device(self._pool)
            self._connected = True
        sent, shapes = await self._learner.send_device(version)
        for i, found in enumerate(await self._pool.installed(shapes)):
            wrong = sorted(name for name, d in found.items() if d != sent[name])
            if wrong:
                raise ClusterError(
                    f"engine {i}: weights of version {version}: {len(wrong)} of {len(found)} "
                    f"sampled tensors differ from what the learner sent, {wrong[0]} first"
                )
        self._pool.policy_version = version
        return len(sent)


async def learner_logprobs(
    learner: Learner, sequences: Sequence[tuple[int, ...]], temperature: float
) -> list[Tensor]:
    """Log-probability of tokens 1.. of each fixed sequence, by the learner."""
    batch = fixed_batch(sequences, temperature)
    column = (await learner.score(batch, frozenset({"old_logprobs"})))["old_logprobs"]
    ends = batch.cu_seqlens.tolist()
    return [column[a + 1 : b] for a, b in zip(ends[:-1], ends[1:], strict=True)]


def fixed_batch(sequences: Sequence[tuple[int, ...]], temperature: float) -> TokenBatch:
    """Fixed sequences as a batch in which every token but the first of each is scored."""
    lengths = torch.tensor([len(s) for s in sequences])
    if int(lengths.min()) < 2:
        raise ValueError("parity probe: a sequence needs two tokens at least")
    cu_seqlens = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    rollout_index = torch.repeat_interleave(torch.arange(len(sequences)), lengths)
    positions = torch.arange(int(cu_seqlens[-1])) - cu_seqlens[rollout_index]
    return TokenBatch(
        token_ids=torch.tensor([t for s in sequences for t in s]),
        positions=positions,
        rollout_index=rollout_index,
        cu_seqlens=cu_seqlens,
        loss_mask=positions > 0,
        columns={},
        temperature=temperature,
        denominators=LossDenominators(
            tokens=int((positions > 0).sum()), rollouts=len(sequences), horizon=int(lengths.max())
        ),
    )


def gap(ours: Sequence[Tensor], engines: Sequence[Sequence[Tensor]]) -> tuple[float, float]:
    """(mean, max) of |ours - theirs| over all tokens, of the engine with the largest mean; NaN
    anywhere makes both NaN, which no alarm threshold lets through."""
    mine = torch.cat(list(ours)).double()
    rows = [(mine - torch.cat(list(one)).double()).abs() for one in engines]
    worst = max(rows, key=lambda row: float(row.mean().nan_to_num(nan=torch.inf)))
    return float(worst.mean()), float(worst.max())


def _alarm_text(version: int, parity: tuple[float, float], alarm: float) -> str:
    return (
        f"weights of version {version}: logprobs of the probe differ by {parity[0]:.2g} nats on "
        f"average (largest {parity[1]:.2g}, alarm {alarm:.2g})"
    )
