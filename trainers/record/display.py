"""The terminal during a run: a progress bar with the latest metrics and, at the end, a summary."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"


def progress_bars(console: Console, *columns: str | ProgressColumn) -> Progress:
    """Bars with a description, m/n and more columns; hidden unless console is a terminal."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        *columns,
        console=console,
        disable=not console.is_terminal,
    )


class Display:
    """A progress bar with the latest metrics on a terminal; plain lines elsewhere."""

    def __init__(self, steps: int, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress = progress_bars(
            self.console, TimeRemainingColumn(), TextColumn("{task.fields[numbers]}")
        )
        self._task = self._progress.add_task("training", total=steps, numbers="")
        self._steps = steps
        self.history: list[Mapping[str, Any]] = []

    def start(self, completed: int) -> None:
        """Show the bar."""
        self._progress.start()
        self._progress.update(self._task, completed=completed)

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()

    def note(self, message: str) -> None:
        """Print one line above the bar."""
        self.console.print(message, highlight=False, markup=False)

    def step(self, row: Mapping[str, Any]) -> None:
        """Show the metrics of one step."""
        self.history.append(row)
        numbers = " ".join(_numbers(row))
        self._progress.update(self._task, completed=int(row["step"]), numbers=numbers)
        if not self.console.is_terminal or any(name.startswith("eval/") for name in row):
            self.note(f"step {int(row['step']):>4}/{self._steps} {numbers} {_evals(row)}".rstrip())

    def rollouts(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table of sample rollouts."""
        if not rows:
            return
        table = Table(title=f"sample rollouts, step {step}", title_justify="left", show_lines=True)
        for name in columns:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(_short(cell)) for cell in row))
        self.console.print(table)

    def summary(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        """Print the panel at the end of a run."""
        table = Table.grid(padding=(0, 2))
        for name, value in lines:
            table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
        self.console.print(Panel(table, title=title, title_align="left"))


def sparkline(values: Sequence[float]) -> str:
    """Values from 0 to the largest one as block characters."""
    top = max([*values, 1e-12])
    return "".join(BLOCKS[min(7, int(8 * max(v, 0.0) / top))] for v in values)


def _numbers(row: Mapping[str, Any]) -> list[str]:
    shown = (
        ("reward/mean", "reward {:.3f}"),
        ("completion/tokens_mean", "tokens {:.0f}"),
        ("policy/entropy", "entropy {:.3f}"),
        ("group/zero_signal_frac", "no signal {:.0%}"),
        ("time/step_s", "{:.2f} s"),
        ("throughput/tokens_per_s", "{:,.0f} tok/s"),
    )
    return [form.format(row[name]) for name, form in shown if row.get(name) is not None]


def _evals(row: Mapping[str, Any]) -> str:
    names = [n for n in row if n.startswith("eval/") and n.endswith("/greedy")]
    return " ".join(
        f"[{n.split('/')[1]}: greedy {row[n]:.3f}"
        f" sampled {row[n.replace('/greedy', '/avg@k')]:.3f}"
        f" pass@k {row[n.replace('/greedy', '/pass@k')]:.3f}]"
        for n in names
    )


def _short(cell: Any) -> str:
    text = str(cell)
    return text if len(text) <= 400 else text[:400] + " ..."
