"""The terminal while a comparison runs: a bar over all runs and a bar for the current run."""

from typing import Any

from rich.console import Console
from rich.progress import TimeElapsedColumn, TimeRemainingColumn

from rlnorm.trainers.compare.runs import Comparison, Run
from rlnorm.trainers.record.display import progress_bars

PIPE_WIDTH = 160
"""Characters per line in a file or a pipe: enough for the full table of verdicts."""


class CompareDisplay:
    """Progress bars on a terminal; elsewhere one plain line per run."""

    def __init__(self, comparison: Comparison) -> None:
        console = Console()
        self.console = console if console.is_terminal else Console(width=PIPE_WIDTH)
        self._steps, self._runs = comparison.config.steps, len(comparison.runs())
        self._progress = progress_bars(
            self.console, "steps", TimeElapsedColumn(), "left", TimeRemainingColumn()
        )
        self._all = self._progress.add_task("all runs", total=self._runs * self._steps)
        self._one = self._progress.add_task("run", total=self._steps, visible=False)
        self._done = 0

    def __enter__(self) -> "CompareDisplay":
        self._progress.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.stop()

    def start(self, run: Run) -> None:
        """A run starts or is resumed."""
        self._progress.reset(self._one, description=run.name, visible=True)
        if not self.console.is_terminal:
            self.note(f"run {self._done + 1}/{self._runs}: {run.name}")

    def step(self, run: Run, step: int) -> None:
        """The current run has completed this many steps."""
        step = max(step, 0)
        self._progress.update(self._one, completed=step)
        self._progress.update(self._all, completed=self._done * self._steps + step)

    def done(self, runs: int) -> None:
        """This many runs have ended, successfully or not."""
        self._done = runs
        self._progress.update(self._one, visible=False)
        self._progress.update(self._all, completed=runs * self._steps)

    def note(self, message: str) -> None:
        """Print one line above the bars."""
        self.console.print(message, highlight=False, markup=False)
