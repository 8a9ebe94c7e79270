"""W&B and TensorBoard, in addition to `metrics.jsonl`; their failures never stop a run."""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Full, Queue
from typing import Any, Protocol

from rlnorm.trainers.config.schema import Config

log = logging.getLogger(__name__)
CLOSE_DEADLINE_S = 30.0
QUEUE_ROWS = 1000
"""Rows that may wait for a slow logger; a logger that falls further behind is dropped."""


class Logger(Protocol):
    """A remote or local copy of the metrics."""

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Write the metrics of one step."""

    def table(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write sample rollouts."""

    def close(self) -> None:
        """Flush."""


class WandbLogger:
    """Weights & Biases; offline unless a key or WANDB_MODE says otherwise."""

    def __init__(self, config: Config, folder: Path) -> None:
        import wandb

        keyed = "WANDB_API_KEY" in os.environ
        mode = os.environ.get("WANDB_MODE") or ("online" if keyed else "offline")
        self._wandb = wandb
        # what is not uploaded in time stays on disk for `wandb sync`; the limit also holds for
        # wandb's own hook at the end of the process
        patience = wandb.Settings(
            init_timeout=CLOSE_DEADLINE_S,
            finish_timeout=CLOSE_DEADLINE_S,
            finish_timeout_raises=True,
        )
        self._run = wandb.init(
            project=config.logging.wandb,
            name=config.run_name,
            dir=str(folder),
            mode=mode,  # type: ignore[arg-type]  # wandb itself refuses an unknown WANDB_MODE
            config=config.model_dump(mode="json"),
            settings=patience,
        )

    def log(self, step: int, row: Mapping[str, float]) -> None:
        self._run.log(dict(row), step=step)

    def table(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        table = self._wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        self._run.log({"rollouts": table}, step=step)

    def close(self) -> None:
        self._run.finish()


class TensorBoardLogger:
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


class LoggerThread:
    """One logger on its own daemon thread, dropped at its first failure."""

    def __init__(
        self, name: str, opens: Callable[[], Logger], *, queue_rows: int = QUEUE_ROWS
    ) -> None:
        """opens: creates the logger, called on the thread."""
        self.failure: str | None = None
        """Why the logger was dropped; None while it works."""
        self._name, self._opens = name, opens
        self._queue: Queue[Callable[[Logger], None] | None] = Queue(queue_rows)
        self._lock = threading.Lock()
        # a daemon, so that the interpreter does not wait for a logger that hangs
        self._thread = threading.Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def put(self, act: Callable[[Logger], None] | None) -> None:
        """Queue a call, or None to close the logger; returns immediately."""
        if self.failure is not None:
            return
        try:
            self._queue.put_nowait(act)
        except Full:
            self._drop(f"too slow: {self._queue.maxsize} rows are waiting")

    def join(self, seconds: float) -> None:
        """Wait for a logger to close; it is dropped if that takes longer."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._drop(f"did not finish within {CLOSE_DEADLINE_S:.0f} s")

    def _work(self) -> None:
        try:
            logger = self._opens()
            while self.failure is None and (act := self._queue.get()) is not None:
                act(logger)
            if self.failure is None:
                logger.close()
        except Exception as error:  # loggers are best effort; metrics.jsonl has every row
            self._drop(f"{type(error).__name__}: {' '.join(str(error).split())}")

    def _drop(self, why: str) -> None:
        with self._lock:
            if self.failure is not None:
                return
            self.failure = f"{self._name}: {why}"
        log.warning("metric logger %s; it is no longer used", self.failure)


class Loggers:
    """All loggers, each on its own thread, so that none can delay or end a run."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._threads: list[LoggerThread] = []
        if config.logging.wandb is not None:
            self._threads.append(LoggerThread("wandb", lambda: WandbLogger(config, folder)))
        if config.logging.tensorboard:
            self._threads.append(LoggerThread("tensorboard", lambda: TensorBoardLogger(folder)))

    @property
    def failures(self) -> list[str]:
        """Why loggers were dropped."""
        return [t.failure for t in self._threads if t.failure is not None]

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Queue the metrics of one step for every logger."""
        known = {name: value for name, value in row.items() if value is not None}
        for thread in self._threads:
            thread.put(lambda logger: logger.log(step, known))

    def table(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Queue sample rollouts for every logger."""
        for thread in self._threads:
            thread.put(lambda logger: logger.table(step, columns, rows))

    def close(self) -> None:
        """Flush for at most CLOSE_DEADLINE_S seconds."""
        end_s = time.monotonic() + CLOSE_DEADLINE_S
        for thread in self._threads:
            thread.put(None)
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
