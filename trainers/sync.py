"""Sends new weights from the learner to the pool and verifies that they arrived.

Each publish carries a version, compares digests of sampled tensors on both sides, and scores fixed
tokens with the learner and with every engine (the parity probe). In one process the pool reads the
learner's memory; in a cluster weights are sent in buckets through the Ray object store, or between
GPUs through vLLM's own weight transfer.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch

from rlnorm.trainers.cluster.ray import ClusterError, EventHandler
from rlnorm.trainers.learner.packing import count_denominators
from rlnorm.trainers.learner.types import Learner
from rlnorm.trainers.rollout.local import LocalPool
from rlnorm.trainers.rollout.types import Logprobs
from rlnorm.trainers.rollout.vllm_pool import BUCKET_MB, Publication, VllmPool
from rlnorm.types import TokenBatch

ALARM = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""Mean |learner - sampler| of logprobs, in nats, above which a publish has failed, by the dtype of
the sampler's weights; at least ten times the effect of rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncReport:
    """Measurements of one publish."""

    version: int
    seconds: float
    """Transfer and digests, without the probe."""
    probe_s: float
    tensors_checked: int
    parity_gap: float
    """Mean |learner - sampler| in nats over the probe's tokens, of the worst engine."""
    parity_max: float


class WeightChannel(Protocol):
    """Updates the pool to the learner's version; each channel supports certain pools only."""

    async def publish(self, learner: Any, pool: Any) -> SyncReport:
        """Send, check, probe. Raises if the pool does not have the learner's weights afterwards."""
        ...


@runtime_checkable
class RefSource(Protocol):
    """A learner whose ranks put buckets into the object store."""

    async def weight_refs(self, *, bucket_mb: float, dtype: torch.dtype) -> Publication:
        """The buckets of the current weights, cast to dtype."""
        ...


@runtime_checkable
class DeviceSource(Protocol):
    """A learner whose ranks send weights directly to the engines' GPUs."""

    async def connect_device(self, pool: VllmPool) -> None:
        """Join ranks and engines in one transfer group; called once."""
        ...

    async def send_device(self) -> tuple[Mapping[str, str], Mapping[str, tuple[int, ...]]]:
        """Send to all engines; returns digests and shapes of sampled tensors."""
        ...


class SharedMemoryChannel:
    """A `WeightChannel` in one process: the pool samples from the learner's tensors, or from merged
    copies with LoRA."""

    def __init__(
        self,
        *,
        copies: bool = False,
        probe: Sequence[tuple[int, ...]] = (),
        temperature: float = 1.0,
    ) -> None:
        """probe: fixed sequences of at least two tokens; without any, there is no probe."""
        self._copies, self._probe, self._temperature = copies, probe, temperature

    async def publish(self, learner: Learner, pool: LocalPool) -> SyncReport:
        started = time.monotonic()
        if self._copies:
            weights = [pair async for bucket in learner.weights() for pair in bucket]
            await pool.load_weights(weights, learner.policy_version)
        else:
            await pool.refresh(learner.policy_version)
        seconds = time.monotonic() - started
        started = time.monotonic()
        mean, largest = 0.0, 0.0
        if self._probe:
            sampler = await pool.score(self._probe, self._temperature)
            own = await learner_logprobs(learner, self._probe, self._temperature)
            mean, largest = gap(own, [sampler])
        report = SyncReport(
            version=learner.policy_version,
            seconds=seconds,
            probe_s=time.monotonic() - started,
            tensors_checked=0,
            parity_gap=mean,
            parity_max=largest,
        )
        if not mean <= ALARM["float32"]:
            text = _alarm_text(report, ALARM["float32"])
            if not report.version:
                text += "; nothing has trained yet, so the learner computes this architecture wrong"
            raise ClusterError(text)
        return report


class ClusterChannel:
    """A `WeightChannel` from learner ranks to vLLM engines. If the probe is above the alarm, the
    weights are sent once more; if it still is, that is an error."""

    def __init__(
        self,
        *,
        probe: Sequence[tuple[int, ...]],
        temperature: float,
        alarm: float | None = None,
        on_event: EventHandler = lambda event: None,
    ) -> None:
        """probe: fixed sequences of at least two tokens. alarm: in nats; None: see `ALARM`."""
        self._probe, self._temperature, self._alarm = probe, temperature, alarm
        self._on_event = on_event
        self._connected = False

    async def publish(self, learner: Learner, pool: VllmPool) -> SyncReport:
        alarm = self._alarm
        if alarm is None:
            alarm = ALARM[str(pool.weight_dtype).removeprefix("torch.")]
        report = await self._once(learner, pool)
        if report.parity_gap <= alarm:
            return report
        self._on_event({"event": "parity_alarm", "cause": _alarm_text(report, alarm)})
        report = await self._once(learner, pool)
        if report.parity_gap <= alarm:
            return report
        raise ClusterError(_alarm_text(report, alarm) + ", after a second transfer too")

    async def _once(self, learner: Learner, pool: VllmPool) -> SyncReport:
        started = time.monotonic()
        if pool.transfer == "object_store":
            checked = await self._through_store(learner, pool)
        else:
            checked = await self._through_device(learner, pool)
        seconds = time.monotonic() - started
        started = time.monotonic()
        own, engines = await asyncio.gather(
            learner_logprobs(learner, self._probe, self._temperature),
            pool.score_each(self._probe, self._temperature),
        )
        mean, largest = gap(own, engines)
        return SyncReport(
            version=learner.policy_version,
            seconds=seconds,
            probe_s=time.monotonic() - started,
            tensors_checked=checked,
            parity_gap=mean,
            parity_max=largest,
        )

    async def _through_store(self, learner: Learner, pool: VllmPool) -> int:
        if isinstance(learner, RefSource):
            publication = await learner.weight_refs(bucket_mb=BUCKET_MB, dtype=pool.weight_dtype)
            await pool.adopt(publication)
            return len(publication.digests)
        weights = [pair async for bucket in learner.weights() for pair in bucket]
        return await pool.load_weights(weights, learner.policy_version)

    async def _through_device(self, learner: Learner, pool: VllmPool) -> int:
        version = learner.policy_version
        if not isinstance(learner, DeviceSource):
            raise ClusterError(
                f"transfer = {pool.transfer!r}: needs learner.backend: deepspeed with ranks on GPUs"
            )
        if not self._connected:
            await learner.connect_device(pool)
            self._connected = True
        sent, shapes = await learner.send_device()
        for i, found in enumerate(await pool.installed(shapes)):
            wrong = sorted(name for name, d in found.items() if d != sent[name])
            if wrong:
                raise ClusterError(
                    f"engine {i}: weights of version {version}: {len(wrong)} of {len(found)} "
                    f"sampled tensors differ from what the learner sent, {wrong[0]} first"
                )
        pool.policy_version = version
        return len(sent)


async def learner_logprobs(
    learner: Learner, sequences: Sequence[tuple[int, ...]], temperature: float
) -> list[Logprobs]:
    """The learner's log-probabilities of tokens 1.. of each fixed sequence."""
    batch = fixed_batch(sequences, temperature)
    column = (await learner.score(batch, frozenset({"old_logprobs"})))["old_logprobs"]
    return [column[a + 1 : b] for a, b in pairwise(batch.cu_seqlens.tolist())]


def fixed_batch(sequences: Sequence[tuple[int, ...]], temperature: float) -> TokenBatch:
    """Fixed sequences as a batch in which every token but the first of each is scored."""
    lengths = torch.tensor([len(s) for s in sequences])
    if int(lengths.min()) < 2:
        raise ValueError("parity probe: a sequence needs at least two tokens")
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
        denominators=count_denominators(positions > 0, rollout_index, int(lengths.max())),
    )


def gap(learner: Sequence[Logprobs], engines: Sequence[Sequence[Logprobs]]) -> tuple[float, float]:
    """(mean, max) of |learner - engine| over all tokens, of the engine with the largest mean; both
    are NaN if any value is, which no alarm threshold lets through."""
    own = torch.cat(list(learner)).double()
    rows = [(own - torch.cat(list(other)).double()).abs() for other in engines]
    worst = max(rows, key=lambda row: float(row.mean().nan_to_num(nan=torch.inf)))
    return float(worst.mean()), float(worst.max())


def _alarm_text(report: SyncReport, alarm: float) -> str:
    return (
        f"weights of version {report.version}: logprobs of the probe differ by "
        f"{report.parity_gap:.2g} nats on average (largest {report.parity_max:.2g}, "
        f"alarm {alarm:.2g})"
    )
