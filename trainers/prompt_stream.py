"""Draws training prompts in a seeded order, from one source or from several by their shares."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import lcm

from jaxtyping import Float
from torch import Tensor

from rlnorm.trainers.seeds import shuffled
from rlnorm.types import Prompt, ScoredRollouts


class PromptStream:
    """The training prompts, reshuffled each epoch; `cursor` is its only state.

    shares: by the name of a source, which its prompts have as `source`; each source has epochs of
    its own. None if there is one source, whatever its prompts have as `source`.
    """

    def __init__(
        self, prompts: Sequence[Prompt], seed: int, shares: Mapping[str, float] | None = None
    ) -> None:
        self.names = tuple(shares or ())
        """Names of the sources; empty if there is only one."""
        if shares is None:
            self._epochs = [_Epochs(prompts, seed)]
        else:
            own = {name: [p for p in prompts if p.source == name] for name in shares}
            self._epochs = [_Epochs(rows, seed, name) for name, rows in own.items()]
        self._weights = whole_weights([1.0] if shares is None else shares.values())
        self._drawn = [0] * len(self._epochs)

    @property
    def cursor(self) -> int:
        """Prompts drawn so far."""
        return sum(self._drawn)

    @cursor.setter
    def cursor(self, count: int) -> None:
        """Go to where a stream is that has drawn `count` prompts."""
        self._drawn = [0] * len(self._epochs)
        for _ in range(count):
            self._drawn[next_source(self._weights, self._drawn)] += 1

    def draw(self, count: int) -> list[Prompt]:
        """The next prompts of the seeded order."""
        out = []
        for _ in range(count):
            source = next_source(self._weights, self._drawn)
            out.append(self._epochs[source].prompt(self._drawn[source]))
            self._drawn[source] += 1
        return out


class _Epochs:
    """The prompts of one source, in another seeded order in each epoch."""

    def __init__(self, prompts: Sequence[Prompt], seed: int, *name: str) -> None:
        self._prompts, self._seed, self._name = prompts, seed, name
        self._epoch = -1
        self._order: list[int] = []

    def prompt(self, index: int) -> Prompt:
        """The prompt at this position of the order, which never ends."""
        epoch, offset = divmod(index, len(self._prompts))
        if epoch != self._epoch:
            rows = range(len(self._prompts))
            self._order = shuffled(rows, self._seed, *self._name, "epoch", epoch)
            self._epoch = epoch
        return self._prompts[self._order[offset]]


def whole_weights(shares: Iterable[float]) -> list[int]:
    """Integers in the proportion of the shares as they are written. Example: 0.7, 0.3 -> 7, 3."""
    exact = [Fraction(repr(share)) for share in shares]
    common = lcm(*(share.denominator for share in exact))
    return [int(share * common) for share in exact]


def next_source(weights: Sequence[int], drawn: Sequence[int]) -> int:
    """The source of the next draw. After k draws a source of share s has had s k, give or take less
    than 1, for every k.

    weights: shares in integers. drawn: draws of each source so far.

    Source: Tijdeman, The chairman assignment problem, Discrete Mathematics 32 (1980): of the
    sources whose deficit s k - drawn allows it, the one that must be drawn soonest.
    """
    if len(weights) == 1:
        return 0
    total, k, parts = sum(weights), sum(drawn) + 1, 2 * len(weights) - 2
    # a deficit is debt / total; it may reach 1 - 1 / parts, and from 1 / parts on a draw is allowed
    debts = [weight * k - total * count for weight, count in zip(weights, drawn, strict=True)]
    ready = [i for i, debt in enumerate(debts) if debt * parts >= total]
    return min(ready, key=lambda i: Fraction(total * (parts - 1) - debts[i] * parts, weights[i]))


def source_metrics(
    names: Sequence[str], scored: ScoredRollouts, totals: Float[Tensor, " n"]
) -> dict[str, float | None]:
    """`source/<name>/prompts` and `source/<name>/reward_mean` of a step, for several sources.

    totals: weighted sum of each rollout's rewards, NaN where it failed. The mean is None for a
    source without a reward in this step.
    """
    row: dict[str, float | None] = {}
    for name in names:
        own = [i for i, r in enumerate(scored.rollouts) if r.prompt.source == name]
        known = totals[own][~totals[own].isnan()]
        row[f"source/{name}/prompts"] = len(set(scored.group_index[own].tolist()))
        row[f"source/{name}/reward_mean"] = float(known.mean()) if len(known) else None
    return row
