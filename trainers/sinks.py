"""Where metrics go besides `metrics.jsonl`: W&B and TensorBoard, which may fail without harm."""

import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol

from trainers.config import Config

log = logging.getLogger(__name__)
CLOSE_DEADLINE_S = 30.0


class Sink(Protocol):
    """A remote or local copy of the metrics."""

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Write one step's numbers."""

    def table(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write sample rollouts."""

    def close(self) -> None:
        """Flush."""


class WandbSink:
    """Weights & Biases; offline unless a key or WANDB_MODE says otherwise."""

    def __init__(self, config: Config, folder: Path) -> None:
        import wandb

        keyed = "WANDB_API_KEY" in os.environ
        mode = os.environ.get("WANDB_MODE") or ("online" if keyed else "offline")
        self._wandb = wandb
        self._run = wandb.init(
            project=config.logging.wandb,
            name=config.run_name,
            dir=str(folder),
            mode=mode,
            config=config.model_dump(mode="json"),
        )

    def log(self, step: int, row: Mapping[str, float]) -> None:
        self._run.log(dict(row), step=step)

    def table(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        table = self._wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        self._run.log({"rollouts": table}, step=step)

    def close(self) -> None:
        self._run.finish()


class TensorBoardSink:
    """Event files in `<run>/tensorboard/`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)

    def table(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
        lines += [" | ".join(str(cell) for cell in row) for row in rows]
        self._writer.add_text("rollouts", "\n".join(lines), step)

    def close(self) -> None:
        self._writer.close()


class Sinks:
    """All sinks on a thread of their own: a slow or broken one never delays or ends a run."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sinks")
        self._sinks: list[Sink] = []
        self.failures: list[str] = []
        """What went wrong, for the run's summary."""
        if config.logging.wandb is not None:
            self._submit("wandb", lambda: self._sinks.append(WandbSink(config, folder)))
        if config.logging.tensorboard:
            self._submit("tensorboard", lambda: self._sinks.append(TensorBoardSink(folder)))

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Hand one step's numbers to every sink."""
        known = {name: value for name, value in row.items() if value is not None}
        self._each(lambda sink: sink.log(step, known))

    def table(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Hand sample rollouts to every sink."""
        self._each(lambda sink: sink.table(step, columns, rows))

    def close(self) -> None:
        """Flush for at most CLOSE_DEADLINE_S seconds."""
        self._each(lambda sink: sink.close())
        last = self._thread.submit(lambda: None)
        if wait([last], timeout=CLOSE_DEADLINE_S).not_done:
            self.failures.append(f"metric sinks did not finish in {CLOSE_DEADLINE_S:.0f} s")
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _each(self, act: Any) -> None:
        def run() -> None:
            for sink in list(self._sinks):
                self._guard(type(sink).__name__, lambda sink=sink: act(sink))

        self._thread.submit(run)

    def _submit(self, name: str, act: Any) -> None:
        self._thread.submit(self._guard, name, act)

    def _guard(self, name: str, act: Any) -> None:
        try:
            act()
        except Exception as error:  # a sink is best effort by contract; metrics.jsonl is the truth
            self.failures.append(f"{name}: {type(error).__name__}: {error}")
            log.warning("metric sink %s failed: %s", name, error)
