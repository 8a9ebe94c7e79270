"""The math rewards: `math` (all layers), `choice` and `countdown`."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlnorm.rewards.calls import inline
from rlnorm.rewards.math.compare import Policy
from rlnorm.rewards.math.normalize import normalize
from rlnorm.rewards.math.symbolic import allowed
from rlnorm.rewards.math.verify import Verdict, check_policy, verify
from rlnorm.rewards.outcome import Outcome
from rlnorm.rewards.pool import Pool
from rlnorm.rewards.types import Sample, Score, Status

_SYMBOLIC = "rlnorm.rewards.math.symbolic:Symbolic"
_CACHE = 50_000


class MathVerifier:
    """Layers 1 to 3 here, layer 4 in the pool, whose results are cached."""

    def __init__(self, pool: Pool | None = None, deadline_s: float = 1.5) -> None:
        self._deadline_s = deadline_s
        self._pool: Pool | None = None
        self._call = -1
        self._known: OrderedDict[tuple[str, str], Outcome] = OrderedDict()
        if pool is not None:
            self.attach(pool)

    def attach(self, pool: Pool) -> None:
        """Use this pool for layer 4; without one, answers that need it stay unparsable."""
        self._pool, self._call = pool, pool.register(_SYMBOLIC)

    async def verify(self, items: Sequence[tuple[str, str, Policy]]) -> list[tuple[Verdict, float]]:
        """(gold, response, policy) -> verdict and the seconds it took, in order."""
        out: list[tuple[Verdict, float]] = []
        for index, (gold, completion, policy) in enumerate(items):
            if index % 256 == 255:
                await asyncio.sleep(0)
            start = time.perf_counter()
            try:
                verdict = verify(gold, completion, policy)
            except Exception as error:  # a bug of ours: recorded and counted, never a 0
                verdict = Verdict(Status.INFRA_ERROR, "text", f"{type(error).__name__}: {error}")
            out.append((verdict, time.perf_counter() - start))
        return await self.settle(out)

    async def settle(self, found: Sequence[tuple[Verdict, float]]) -> list[tuple[Verdict, float]]:
        """Ask the pool about those that layers 1 to 3 left undecided."""
        out = list(found)
        open_ = {
            i: pair
            for i, (verdict, _) in enumerate(out)
            if verdict.undecided and (pair := _symbolic_pair(verdict)) is not None
        }
        for i, outcome in (await self._symbolic(open_)).items():
            verdict, seconds = out[i]
            out[i] = _decided(verdict, outcome), seconds + outcome.seconds
        return out

    async def _symbolic(self, pairs: Mapping[int, tuple[str, str]]) -> dict[int, Outcome]:
        if self._pool is None or not pairs:
            return {}
        new = [p for p in dict.fromkeys(pairs.values()) if p not in self._known]
        if new:
            found = await self._pool.map(self._call, new, deadline_s=self._deadline_s, chunk=8)
            self._known.update(zip(new, found, strict=True))
        outcomes = {}
        for i, pair in pairs.items():
            outcomes[i] = self._known[pair]
            self._known.move_to_end(pair)
        while len(self._known) > _CACHE:
            self._known.popitem(last=False)
        return outcomes


def _symbolic_pair(verdict: Verdict) -> tuple[str, str] | None:
    pair = (normalize(verdict.gold), normalize(verdict.answer))
    return pair if all(allowed(text) for text in pair) else None


def _decided(verdict: Verdict, outcome: Outcome) -> Verdict:
    if outcome.kind == "ok":
        status = Status.CORRECT if outcome.value else Status.WRONG
        return replace(verdict, status=status, layer="symbolic", why="", undecided=False)
    if outcome.kind == "error":  # math-verify could not read it either
        return replace(verdict, layer="symbolic", why=str(outcome.value)[:200], undecided=False)
    return replace(
        verdict, status=Status.TIMEOUT, layer="symbolic", why=str(outcome.value), undecided=False
    )


def as_score(verdict: Verdict, seconds: float = 0.0) -> Score:
    """1.0 for correct, NaN where there is no verdict, else 0.0."""
    value = float(verdict.status is Status.CORRECT) if verdict.status.is_verdict else math.nan
    detail = {"layer": verdict.layer, "why": verdict.why, "answer": verdict.answer[:200]}
    return Score(components={"score": value}, status=verdict.status, seconds=seconds, detail=detail)


def gold_texts(gold: Any) -> list[str]:
    """One or several accepted golds as text; empty when there is none."""
    listed = gold if isinstance(gold, list | tuple) else [gold]
    return [str(g) for g in listed if g is not None and str(g).strip()]


class MathReward:
    """Mathematical equality of the response's final answer and the gold (any of a list).

    policy: relative_tolerance, absolute_tolerance, percent (ignore, value, strict), units (agree,
    ignore); a row's meta["policy"] overrides it. A row without a gold is gold_error.
    """

    components = ("math",)
    reads_math = True
    """The golds of rows that it grades have to verify against themselves."""

    def __init__(self, *, policy: Mapping[str, Any] | None = None, deadline_s: float = 1.5) -> None:
        self._policy = dict(policy or {})
        check_policy(self._policy, "math.policy")
        self._verifier = MathVerifier(deadline_s=deadline_s)

    def attach(self, pool: Pool) -> None:
        """Called by the scorer with its worker pool."""
        self._verifier.attach(pool)

    @staticmethod
    def check_gold(gold: Any) -> None:
        """Raise ValueError if there is no gold, or one that is a table."""
        listed = gold if isinstance(gold, list | tuple) else [gold]
        if not gold_texts(gold) or not all(isinstance(g, str | int | float | None) for g in listed):
            raise ValueError(f"gold {str(gold)[:100]!r}: needs a text or a list of texts")

    async def score(self, batch: Sequence[Sample]) -> list[Score]:
        """One Score per sample."""
        items, owners = [], []
        for index, sample in enumerate(batch):
            policy = check_policy(self._policy | dict(sample.meta.get("policy") or {}), "policy")
            for gold in gold_texts(sample.gold) or [""]:
                items.append((gold, sample.full_text, policy))
                owners.append(index)
        best: dict[int, tuple[Verdict, float]] = {}
        for owner, found in zip(owners, await self._verifier.verify(items), strict=True):
            if owner not in best or found[0].status is Status.CORRECT:
                best[owner] = found
        return [as_score(*best[i]) for i in range(len(batch))]


@inline
def choice(full_text: str, gold: Any) -> Score:
    """Multiple choice: the gold is a letter A to J."""
    [letter] = gold_texts(gold) or [""]
    verdict = verify(letter.strip().strip("()."), full_text)
    return as_score(verdict)


@inline
def countdown(full_text: str, meta: Mapping[str, Any]) -> Score:
    """1.0 when the answer is an expression that uses meta["nums"] once each and hits the target."""
    from rlnorm.rewards.math.countdown import check_countdown

    return as_score(check_countdown(full_text, meta["nums"], meta["target"]))
