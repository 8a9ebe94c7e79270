"""Scores batches of samples with several rewards at once and keeps every component separate."""

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from rlnorm.errors import InputError, with_place
from rlnorm.rewards.agreement import Agreement
from rlnorm.rewards.alarm import Alarm, log_alarm
from rlnorm.rewards.errors import RewardError
from rlnorm.rewards.pool import Pool
from rlnorm.rewards.results import ComponentScore, as_scores, failure, not_applicable
from rlnorm.rewards.running import BoundReward, Runner
from rlnorm.rewards.spec import DEFAULT_MEMORY_MB
from rlnorm.rewards.statistics import ComponentStatistics, summarize
from rlnorm.rewards.types import Sample, Status


class Scorer:
    """`scores = await scorer.score(samples)`; see rlnorm.rewards.registry.load_rewards.

    A user's exception stops the run in the first batch. Later it is recorded as infra_error, until
    more than `error_cap` of a batch fails. NaN, inf, a wrong component name or a batch of which no
    sample is in time always stops it.
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
        self.batches = 0
        """Batches that the run has scored; a run that is resumed has had some."""
        self.on_alarm = on_alarm
        self._runner = Runner(pool, deadline_s, on_alarm)
        self._rewards = tuple(reward.attached(pool) for reward in rewards)
        self._error_cap = error_cap
        self._examples: dict[tuple[str, Status], deque[tuple[Sample, ComponentScore]]] = (
            defaultdict(lambda: deque(maxlen=4))
        )
        self._agreements = [
            Agreement(r.components[0], r.compare_with) for r in rewards if r.compare_with
        ]

    @property
    def pool(self) -> Pool:
        """The workers that rewards run in."""
        return self._runner.pool

    @property
    def memory_mb(self) -> int:
        """The memory limit of a worker: the largest of the rewards', since they share workers."""
        return max(r.spec.memory_mb or DEFAULT_MEMORY_MB for r in self._rewards)

    def run_on(self, pool: Pool) -> None:
        """Run workers' rewards in this pool from now on; the previous one is closed."""
        self.pool.close()
        self._rewards = tuple(reward.attached(pool) for reward in self._rewards)
        self._runner.pool = pool

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

    @property
    def _graders(self) -> list[BoundReward]:
        return [r for i, r in enumerate(self._rewards) if i == 0 or r.spec.rows]

    def grades(self, meta: Mapping[str, Any]) -> bool:
        """True if a reward says whether a completion for this data row is correct: the first one,
        or one that is for some rows only."""
        return any(r.spec.applies_to(meta) for r in self._graders)

    def verdict(self, row: Mapping[str, ComponentScore]) -> float:
        """1 or 0 by the first of these rewards that applies, above 0 or not; NaN if it failed or
        none applies."""
        scores = [row[r.components[0]] for r in self._graders]
        value = next((s.value for s in scores if s.status.applies), math.nan)
        return value if math.isnan(value) else float(value > 0)

    def audits(self, meta: Mapping[str, Any]) -> bool:
        """False for a row whose gold no reward reads as mathematics, since those that do are for
        other rows."""
        return not self._math_rewards or self.reads_math(meta)

    def reads_math(self, meta: Mapping[str, Any]) -> bool:
        """True for a row whose gold a reward reads as mathematics."""
        return any(r.spec.applies_to(meta) for r in self._math_rewards)

    @property
    def _math_rewards(self) -> list[BoundReward]:
        return [r for r in self._rewards if getattr(r.call.target, "reads_math", False)]

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
        return list(self._examples[component, status])

    async def close(self) -> None:
        """End every worker and whatever the rewards hold open. May be repeated."""
        async with AsyncExitStack() as stack:  # an error in one must not keep another open
            stack.push_async_callback(asyncio.to_thread, self.pool.close)
            stack.push_async_callback(self._runner.close, self._rewards)

    def _record(self, samples: Sequence[Sample], rows: list[dict[str, ComponentScore]]) -> None:
        self.batches += 1
        self.statistics = {c: summarize([row[c] for row in rows]) for c in self.components}
        for sample, row in zip(samples, rows, strict=True):
            for name, score in row.items():
                self._examples[name, score.status].append((sample, score))
        for reward in self._rewards:
            for name in reward.components:
                for kind, message in self.statistics[name].alarms():
                    self.on_alarm(Alarm(name, kind, message + self._cause(reward, name, kind)))
        for agreement in self._agreements:
            if said := agreement.observe(samples, rows):
                self.on_alarm(Alarm(agreement.judge, "disagreement", said))

    def _cause(self, reward: BoundReward, component: str, kind: str) -> str:
        """What a message of timeouts or failures adds: the key, or the last failure."""
        if kind == "timeouts":
            limit = self._runner.deadline_s(reward)
            return f" (deadline_s = {limit:g}); raise rewards.{reward.spec.name}.deadline_s"
        for status in (Status.INFRA_ERROR, Status.GOLD_ERROR) if kind == "failures" else ():
            for _, score in reversed(self._examples[component, status]):
                return f" ({status}: {score.detail.get('error') or score.detail.get('why', '')})"
        return ""

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
        self, reward: BoundReward, items: Sequence[Any]
    ) -> list[dict[str, ComponentScore]]:
        outcomes, name = await self._runner.outcomes(reward, items), reward.spec.name
        memory = [o for o in outcomes if o.kind == "memory"]
        hint = f"; raise rewards.{name}.memory_mb" if memory else ""
        errors = [*memory, *(o for o in outcomes if o.kind in ("error", "died"))]
        if errors and (self.batches == 0 or len(errors) > max(1, self._error_cap * len(items))):
            raise RewardError(
                f"reward {name!r} failed on {len(errors)} of {len(items)} samples; the first: "
                f"{errors[0].value}{hint}"
            )
        if memory:
            said = f"{memory[0].value} ({len(memory)} of {len(items)} samples){hint}"
            self.on_alarm(Alarm(name, "memory", said))
        own = reward.call.own_components
        return [as_scores(o, reward.components, name, own) for o in outcomes]
