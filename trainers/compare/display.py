"""What a person sees while a comparison runs: one bar over all runs, one for the run under way."""

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rlnorm.trainers.compare.runs import Comparison, Run

PIPE_WIDTH = 160
"""Characters a line in a file or a pipe: enough for the whole table of verdicts."""


class CompareDisplay:
    """Live bars; one plain line a run where the terminal is not live."""

    def __init__(self, comparison: Comparison, console: Console | None = None) -> None:
        console = console or Console()
        self.console = console if console.is_terminal else Console(width=PIPE_WIDTH)
        self._steps, self._runs = comparison.config.steps, len(comparison.runs())
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
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
        """A run begins, or goes on."""
        self._progress.reset(self._one, description=run.name, visible=True)
        if not self.console.is_terminal:
            self.note(f"run {self._done + 1}/{self._runs}: {run.name}")

    def step(self, run: Run, step: int) -> None:
        """The run under way has done this many steps."""
        step = max(step, 0)
        self._progress.update(self._one, completed=step)
        self._progress.update(self._all, completed=self._done * self._steps + step)

    def done(self, runs: int) -> None:
        """This many runs are over, finished or not."""
        self._done = runs
        self._progress.update(self._one, visible=False)
        self._progress.update(self._all, completed=runs * self._steps)

    def note(self, message: str) -> None:
        """One line above the bars."""
        self.console.print(message, highlight=False, markup=False)
