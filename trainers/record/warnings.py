"""Tells once, by name, what has gone wrong in a run for ten steps, from its rows of metrics."""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STEPS = 10
"""How many steps in a row a sign must be there; also how many the start of the gap is a mean of."""
SMALL_GAP = 1e-3
"""Nats per token; a gap below is rounding, whatever it was at the start."""
SAME = 1e-9
"""Largest difference of two scores that count as equal."""
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunWarning:
    """A sign that a run goes wrong."""

    name: str
    about: str = ""
    """The reward component that it is about, if any."""
    step: int
    message: str
    """What was seen for ten steps."""
    cause: str
    """The likely cause."""
    key: str
    """The keys of the config that help."""

    def __str__(self) -> str:
        name = f"{self.name} ({self.about})" if self.about else self.name
        return (
            f"warning {name} at step {self.step}: {self.message}; likely: {self.cause}; "
            f"what helps: {self.key}"
        )


class Watch:
    """Reads the metrics of each step and returns what has just become a warning."""

    def __init__(self) -> None:
        self._last: deque[Row] = deque(maxlen=STEPS)
        self._entropy: float | None = None
        self._gaps: list[float] = []
        self._told: set[tuple[str, str]] = set()

    def restore(self, rows: Iterable[Row], told: Iterable[Row]) -> None:
        """Continue a run from its metrics, without repeating the warnings that it has logged."""
        for row in rows:
            self.observe(row)
        self._told = {(event["name"], event["about"]) for event in told}

    def observe(self, row: Row) -> list[RunWarning]:
        """Warnings that this step completes; each name is told once, for each component once."""
        if row["step"] == 0:  # the evaluation before training
            return []
        self._last.append(row)
        entropy, gap = known(row, "policy/entropy"), known(row, "policy/logprob_gap_mean")
        self._entropy = entropy if self._entropy is None else self._entropy
        if gap is not None and len(self._gaps) < STEPS:
            self._gaps.append(gap)
        if len(self._last) < STEPS:
            return []
        found = [w for w in self._signs(int(row["step"])) if (w.name, w.about) not in self._told]
        self._told |= {(w.name, w.about) for w in found}
        return found

    def _signs(self, step: int) -> list[RunWarning]:
        rows = list(self._last)
        signs = [
            _zero_signal(rows, step),
            _entropy(rows, step, self._entropy),
            _truncated(rows, step),
            _repeated(rows, step),
        ]
        if len(self._gaps) == STEPS:
            signs.append(_gap(rows, step, math.fsum(self._gaps) / STEPS))
        names = [name.split("/")[1] for name in rows[-1] if _is_std(name)]
        signs += [_constant(rows, step, name) for name in names]
        return [sign for sign in signs if sign is not None]


def known(row: Row, name: str) -> float | None:
    """The value of a metric; None if the step does not have it."""
    value = row.get(name)
    return None if value is None or math.isnan(value) else float(value)


def _all_above(rows: Sequence[Row], name: str, bound: float) -> bool:
    return all((value := known(row, name)) is not None and value > bound for row in rows)


def _zero_signal(rows: Sequence[Row], step: int) -> RunWarning | None:
    if not _all_above(rows, "group/zero_signal_frac", 0.9):
        return None
    return RunWarning(
        name="zero_signal",
        step=step,
        message=f"for {STEPS} steps every advantage was 0 in over 90 % of the groups",
        cause="the prompts are far too easy or too hard: a group's rollouts get equal rewards",
        key="data.train with other prompts, a larger rollout.group_size, algorithm: dapo",
    )


def _entropy(rows: Sequence[Row], step: int, start: float | None) -> RunWarning | None:
    values = [known(row, "policy/entropy") for row in rows]
    if start is None or not all(v is not None and v < start / 10 for v in values):
        return None
    return RunWarning(
        name="entropy_collapse",
        step=step,
        message=f"for {STEPS} steps the entropy was below a tenth of its start, {start:.3g} nats",
        cause="the policy has become certain and no longer explores",
        key="a lower learner.lr, algorithm.loss.clip_high, algorithm.regularizers: [entropy]",
    )


def _truncated(rows: Sequence[Row], step: int) -> RunWarning | None:
    if not _all_above(rows, "completion/truncated_frac", 0.5):
        return None
    return RunWarning(
        name="truncated",
        step=step,
        message=f"for {STEPS} steps over half of the rollouts were cut off at rollout.max_tokens",
        cause="answers need more tokens, or the model never ends its turn",
        key="rollout.max_tokens, rollout.stop, algorithm.modulators: [drop_truncated]",
    )


def _repeated(rows: Sequence[Row], step: int) -> RunWarning | None:
    values = [known(row, "completion/most_common_frac") for row in rows]
    if not all(v is not None and v >= 0.5 for v in values):
        return None
    return RunWarning(
        name="same_completion",
        step=step,
        message=f"for {STEPS} steps one and the same completion filled half of the batch",
        cause="the policy has collapsed to one text that its rewards favour",
        key="rewards that this text does not satisfy, a lower learner.lr, rollout.temperature",
    )


def _gap(rows: Sequence[Row], step: int, start: float) -> RunWarning | None:
    if not _all_above(rows, "policy/logprob_gap_mean", max(2 * start, SMALL_GAP)):
        return None
    return RunWarning(
        name="sampler_gap",
        step=step,
        message=f"for {STEPS} steps the logprobs of sampler and learner differed by over twice as "
        f"much as in the first {STEPS} steps, {start:.2g} nats per token",
        cause="the two compute the model differently, which the training amplifies",
        key="model.dtype: float32, algorithm.correction, a lower learner.lr",
    )


def _constant(rows: Sequence[Row], step: int, name: str) -> RunWarning | None:
    spreads = [known(row, f"reward/{name}/std") for row in rows]
    means = [mean for row in rows if (mean := known(row, f"reward/{name}/mean")) is not None]
    varied = len(means) < STEPS or max(means) - min(means) > SAME
    if varied or any(spread is None or spread > SAME for spread in spreads):
        return None
    return RunWarning(
        name="constant_reward",
        about=name,
        step=step,
        message=f"for {STEPS} steps the reward {name!r} was {means[-1]:g} for every rollout",
        cause="it has been learnt completely, or it never fits what the model writes",
        key=f"rewards.{name}.function and its options; one that is learnt can be removed",
    )


def _is_std(name: str) -> bool:
    return name.startswith("reward/") and name.endswith("/std") and name.count("/") == 2
