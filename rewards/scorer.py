"""Scores batches of samples with several rewards at once and keeps every component separate."""

import asyncio
import inspect
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from rlnorm.errors import InputError, with_place
from rlnorm.rewards.agreement import Agreement
from rlnorm.rewards.calls import Call
from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.pool import Outcome, Pool
from rlnorm.rewards.results import ComponentScore, as_scores, failure, not_applicable
from rlnorm.rewards.spec import RewardSpec
from rlnorm.rewards.statistics import ComponentStatistics, summarize
from rlnorm.rewards.types import Sample, Status

log = logging.getLogger(__name__)
LOOP_DEADLINE_S = 600.0
"""Per sample, for a coroutine without a deadline of its own."""
AT_ONCE = 64
"""Most concurrent coroutines of a reward that takes one sample at a time."""


@dataclass(frozen=True, slots=True)
class BoundReward:
    """One spec with its function found and its components named."""

    spec: RewardSpec
    call: Call
    components: tuple[str, ...]
    shipped: str | bytes | None = None
    """What workers import or unpickle, where the call runs in them."""
    pool_call: int | None = None
    """Its id in the scorer's pool."""

    @property
    def compare_with(self) -> str | None:
        """The component that this one, a judge, should agree with; see rlnorm.rewards.agreement."""
        return getattr(self.call.target, "compare_with", None)

    def attached(self, pool: Pool) -> "BoundReward":
        """The same reward, with its function registered with this pool."""
        attach = getattr(self.call.target, "attach", None)
        if attach is not None:
            attach(pool)
        if self.call.where != "pool":
            return self
        assert self.shipped is not None, "a call in a pool is shipped to it"
        return replace(self, pool_call=pool.register(self.shipped, self.spec.options))


@dataclass(frozen=True, slots=True)
class Alarm:
    """A condition worth checking; sent to `on_alarm`, never raised."""

    component: str
    kind: str
    """timeouts | failures | constant | disagreement"""
    message: str


def log_alarm(alarm: Alarm) -> None:
    """The default alarm hook: a warning in the log."""
    log.warning("reward %s: %s", alarm.component, alarm.message)


@dataclass(eq=False, slots=True)
class _History:
    batches: int = 0
    examples: dict[tuple[str, Status], deque[tuple[Sample, ComponentScore]]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=4))
    )


class Scorer:
    """`scores = await scorer.score(samples)`; see rlnorm.rewards.registry.load_rewards.

    A user's exception stops the run in the first batch. Later it is recorded as infra_error, until
    more than `error_cap` of a batch fails. NaN, inf or a wrong component name always stops it.
    """

    def __init__(
        self,
        rewards: Sequence[BoundReward],
        weights: Mapping[str, float],
        pool: Pool,
        *,
        deadline_s: float,
        error_cap: float = 0.1,
        on_alarm: Callable[[Alarm], None] = log_alarm,
    ) -> None:
        self.components: tuple[str, ...] = tuple(c for r in rewards for c in r.components)
        self.weights: dict[str, float] = dict(weights)
        self.statistics: dict[str, ComponentStatistics] = {}
        """Of the last batch, by component."""
        self.pool = pool
        self.on_alarm = on_alarm
        self._rewards = tuple(reward.attached(pool) for reward in rewards)
        self._deadline_s, self._error_cap = deadline_s, error_cap
        self._history = _History()
        self._agreements = [
            Agreement(r.components[0], r.compare_with) for r in rewards if r.compare_with
        ]

    def run_on(self, pool: Pool) -> None:
        """Run workers' rewards in this pool from now on; the previous one is closed."""
        self.pool.close()
        self._rewards = tuple(reward.attached(pool) for reward in self._rewards)
        self.pool = pool

    async def score(self, samples: Sequence[Sample]) -> list[dict[str, ComponentScore]]:
        """Component scores of each sample, in order."""
        rows: list[dict[str, ComponentScore]] = [{} for _ in samples]
        first = [r for r in self._rewards if not r.call.needs_scores]
        await self._fill(rows, first, samples, samples)
        second = [r for r in self._rewards if r.call.needs_scores]
        if second:
            known = [dict(row) for row in rows]
            await self._fill(rows, second, samples, list(zip(samples, known, strict=True)))
        rows = [self._gated({name: row[name] for name in self.components}) for row in rows]
        self._record(samples, rows)
        return rows

    def applies(self, meta: Mapping[str, Any]) -> bool:
        """True if a reward applies to the data row with these columns."""
        return any(r.spec.applies_to(meta) for r in self._rewards)

    def audits(self, meta: Mapping[str, Any]) -> bool:
        """False for a row whose gold no reward reads as mathematics, since those that do are for
        other rows."""
        math_rewards = [r for r in self._rewards if getattr(r.call.target, "reads_math", False)]
        return not math_rewards or any(r.spec.applies_to(meta) for r in math_rewards)

    def gold_fault(self, gold: Any, meta: Mapping[str, Any]) -> str:
        """Why a reward that is for this row cannot read its gold; "" if all can.

        Asked are rewards with a method `check_gold(gold)`, which raises ValueError.
        """
        for reward in self._rewards:
            check = getattr(reward.call.target, "check_gold", None)
            if check is not None and reward.spec.applies_to(meta):
                try:
                    check(gold)
                except ValueError as error:
                    return f"{reward.spec.name}: {error}"
                except Exception as error:
                    where = f"rewards.{reward.spec.name}.check_gold({gold!r:.80})"
                    raise InputError(f"{where}: {with_place(error)}") from error
        return ""

    @property
    def row_filters(self) -> dict[str, Mapping[str, tuple[Any, ...]]]:
        """`rows` of each reward that has it, by the reward's name."""
        return {r.spec.name: r.spec.rows for r in self._rewards if r.spec.rows}

    async def _fill(
        self,
        rows: list[dict[str, ComponentScore]],
        rewards: list[BoundReward],
        samples: Sequence[Sample],
        items: Sequence[Any],
    ) -> None:
        tasks = [asyncio.ensure_future(self._column(r, samples, items)) for r in rewards]
        try:
            for column in await asyncio.gather(*tasks):
                for row, scores in zip(rows, column, strict=True):
                    row.update(scores)
        finally:
            for task in tasks:
                task.cancel()

    def metrics(self) -> dict[str, float]:
        """The last batch's statistics as flat names: `reward/<component>/mean` and so on."""
        return {
            f"reward/{name}/{key}": value
            for name, statistics in self.statistics.items()
            for key, value in statistics.flat().items()
        } | {f"reward/{a.judge}/disagreement": a.last for a in self._agreements}

    def examples(self, component: str, status: Status) -> list[tuple[Sample, ComponentScore]]:
        """The last few samples that got this status."""
        return list(self._history.examples[component, status])

    async def close(self) -> None:
        """End every worker and whatever the rewards hold open. May be repeated."""
        async with AsyncExitStack() as stack:  # an error in one must not keep another open
            stack.push_async_callback(asyncio.to_thread, self.pool.close)
            for reward in self._rewards:
                stack.push_async_callback(_close, reward.call.target)

    def _record(self, samples: Sequence[Sample], rows: list[dict[str, ComponentScore]]) -> None:
        self._history.batches += 1
        self.statistics = {c: summarize([row[c] for row in rows]) for c in self.components}
        for sample, row in zip(samples, rows, strict=True):
            for name, score in row.items():
                self._history.examples[name, score.status].append((sample, score))
        for name, statistics in self.statistics.items():
            for kind, message in statistics.alarms():
                self.on_alarm(Alarm(name, kind, message))
        for agreement in self._agreements:
            if said := agreement.observe(samples, rows):
                self.on_alarm(Alarm(agreement.judge, "disagreement", said))

    def _gated(self, row: dict[str, ComponentScore]) -> dict[str, ComponentScore]:
        out = dict(row)
        for reward in self._rewards:
            if reward.spec.gate is None:
                continue
            gate = row[reward.spec.gate]
            for name in reward.components:
                if not gate.status.is_verdict:
                    out[name] = failure(gate.status, f"gate {reward.spec.gate}: {gate.status}")
                elif not gate.value > 0 and row[name].status.is_verdict:
                    out[name] = row[name].gated_to_zero()
        return out

    async def _column(
        self, reward: BoundReward, samples: Sequence[Sample], items: Sequence[Any]
    ) -> list[dict[str, ComponentScore]]:
        """The reward's components for each sample; not applicable where its `rows` say so."""
        mine = [i for i, sample in enumerate(samples) if reward.spec.applies_to(sample.meta)]
        column = [{name: not_applicable() for name in reward.components} for _ in samples]
        if mine:
            found = await self._scores(reward, [items[i] for i in mine])
            for index, scores in zip(mine, found, strict=True):
                column[index] = scores
        return column

    async def _scores(
        self, reward: BoundReward, samples: Sequence[Any]
    ) -> list[dict[str, ComponentScore]]:
        where = reward.call.where
        if where == "inline":
            outcomes = await _run_inline(reward.call, samples)
        elif where == "pool":
            outcomes = await self._run_pool(reward, samples)
        else:
            outcomes = await self._run_loop(reward, samples)
        errors = [o for o in outcomes if o.kind in ("error", "died", "memory")]
        if errors and (
            self._history.batches == 0 or len(errors) > max(1, self._error_cap * len(samples))
        ):
            raise RewardError(
                f"reward {reward.spec.name!r} failed on {len(errors)} of {len(samples)} samples;"
                f" the first: {errors[0].value}"
            )
        own = reward.call.own_components
        return [as_scores(o, reward.components, reward.spec.name, own) for o in outcomes]

    async def _run_pool(self, reward: BoundReward, samples: Sequence[Any]) -> list[Outcome]:
        assert reward.pool_call is not None
        deadline = reward.spec.deadline_s or self._deadline_s
        if not reward.call.batched:
            return await self.pool.map(reward.pool_call, samples, deadline_s=deadline)
        if not samples:
            return []
        [batch] = await self.pool.map(
            reward.pool_call, [list(samples)], deadline_s=deadline * len(samples)
        )
        return _split_batch(batch, len(samples), reward.spec.name)

    async def _run_loop(self, reward: BoundReward, samples: Sequence[Any]) -> list[Outcome]:
        """Await one coroutine per sample, at most AT_ONCE at a time, or one for the batch, with
        the time that its samples would get in rounds of AT_ONCE."""
        deadline = reward.spec.deadline_s or LOOP_DEADLINE_S
        if reward.call.batched:
            rounds = max(1, -(-len(samples) // AT_ONCE))
            batch = await _timed(reward.call.invoke(samples), deadline * rounds)
            return _split_batch(batch, len(samples), reward.spec.name)
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(sample: Any) -> Outcome:
            async with limit:
                return await _timed(reward.call.invoke(sample), deadline)

        return list(await asyncio.gather(*(one(s) for s in samples)))


async def _close(target: Any) -> None:
    closing = getattr(target, "close", None)
    if closing is not None and inspect.isawaitable(result := closing()):
        await result


async def _timed(awaitable: Any, deadline_s: float) -> Outcome:
    start = time.perf_counter()
    try:
        async with asyncio.timeout(deadline_s) as timer:
            value = await awaitable
        return Outcome("ok", value, time.perf_counter() - start)
    except Exception as error:
        spent = time.perf_counter() - start
        if isinstance(error, TimeoutError) and timer.expired():
            return Outcome("timeout", f"cancelled after {spent:.2f} s", spent)
        return Outcome("error", f"{type(error).__name__}: {error}", spent)


async def _run_inline(call: Call, samples: Sequence[Any]) -> list[Outcome]:
    outcomes = []
    for index, sample in enumerate(samples):
        if index % 256 == 255:
            await asyncio.sleep(0)  # let other coroutines in
        start = time.perf_counter()
        try:
            value = call.invoke(sample)
        except Exception as error:
            outcomes.append(Outcome("error", f"{type(error).__name__}: {error}", math.nan))
        else:
            outcomes.append(Outcome("ok", value, time.perf_counter() - start))
    return outcomes


def _split_batch(batch: Outcome, count: int, name: str) -> list[Outcome]:
    if batch.kind != "ok":
        return [batch] * count
    try:
        values = list(batch.value)
    except TypeError:
        raise RewardError(f"reward {name!r} returned {batch.value!r}: needs a list") from None
    if len(values) != count:
        raise RewardError(f"reward {name!r} returned {len(values)} scores for {count} samples")
    return [Outcome("ok", value, batch.seconds / max(1, count)) for value in values]
