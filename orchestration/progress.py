"""The live table: done, running, failed, collapsed, time left, best cell."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from analysis.events import Event
from orchestration.observer import Report
from orchestration.speech import say
from sweeps.cells import Cell, labels

SHOWN = 8
"""Running cells listed by name."""
KNOWN_SHARE = 0.03
"""Share of the work after which the time left is told: before it, starting up is most of the time."""
LINE_SECONDS = 10.0
"""Time between two lines where the output is no terminal."""


class Progress:
    """An observer that draws. ``flop``: what is to be executed, for the estimate of the time left."""

    def __init__(self, cells: Mapping[str, Cell], flop: float, already_done: int, console: Console) -> None:
        self._cells = cells
        self._labels = labels(cells.values())
        self._flop = flop
        self._executed = 0.0
        self._already = already_done
        self._console = console
        self._live: Live | None = None
        self._started = time.monotonic()
        self._last_line = self._started
        self._lock = threading.Lock()
        self.running: dict[str, Report | None] = {}
        self.done: dict[str, Report | None] = {}
        self.failures: dict[str, str] = {}
        """How each of them ended, failed or stopped."""
        self.collapses: set[str] = set()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(get_renderable=self.table, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        began = bool(self.running or self.done or self.failures)
        self.running = {}
        if began or error is None:  # else the error says why
            say(self._console, self.line())

    def started(self, cell_id: str) -> None:
        """A worker took the cell."""
        with self._lock:
            self.running[cell_id] = None

    def progressed(self, report: Report) -> None:
        """The cell trained on."""
        with self._lock:
            before = self.running.get(report.cell_id)
            self._executed += report.flop - (before.flop if before else 0.0)
            self.running[report.cell_id] = report
        self._say()

    def finished(self, cell_id: str) -> None:
        """The cell is done."""
        with self._lock:
            self.done[cell_id] = self.running.pop(cell_id, None)
        self._say()

    def failed(self, cell_id: str, reason: str, *, rule: str = "") -> None:
        """The cell failed."""
        with self._lock:
            self.running.pop(cell_id, None)
            ended = self.failures[cell_id] = "stopped" if rule else "failed"
        say(self._console, f"{cell_id} ({self._labels[cell_id]}): {reason}", ended)

    def retried(self, cell_id: str, reason: str) -> None:
        """Another worker will go on with the cell."""
        with self._lock:
            self.running.pop(cell_id, None)
        say(self._console, f"{cell_id} ({self._labels[cell_id]}): {reason}", "again")

    def collapsed(self, cell_id: str, events: tuple[Event, ...]) -> None:
        """A cell's collapse events are others now: the first loss that lasts is told, the others are counted."""
        lasting = [event for event in events if event.irreversible and cell_id in self._cells]
        if lasting and not self.collapses:
            what = f"{cell_id} ({self._labels[cell_id]}): {lasting[0].reason}"
            say(self._console, what, "first collapse")
        self.collapses = self.collapses | {cell_id} if lasting else self.collapses - {cell_id}

    def line(self) -> str:
        """One line: counts, time left, best cell."""
        total = self._already + len(self._cells)
        counts = f"{self._already + len(self.done)} of {total} cells done, {len(self.running)} running"
        with self._lock:  # a thread draws
            ended = Counter(self.failures.values())
        parts = [counts, f"{ended['failed']} failed", *[f"{ended['stopped']} stopped"] * ("stopped" in ended)]
        parts += [f"{clock(time.monotonic() - self._started)} elapsed"]
        parts += [f"{len(self.collapses)} collapsed"] if self.collapses else []
        left = self.seconds_left()
        if left is not None:
            parts.append(f"about {clock(left)} left")
        best = self.best()
        which = "best new cell" if self._already else "best cell"
        return ", ".join(parts) + (f" · {which} {best}" if best else "")

    def seconds_left(self) -> float | None:
        """From the work done so far; ``None`` while that is too little to tell, and when nothing is left."""
        done, total = self._executed, self._flop
        over = len(self.done) + len(self.failures) == len(self._cells)
        known = done >= KNOWN_SHARE * total and done < total and not over
        return (time.monotonic() - self._started) * (total - done) / done if known else None

    def best(self) -> str:
        """The finished cell with the highest accuracy: on validation, or on test where there is no validation split."""
        with self._lock:
            done = [report for report in self.done.values() if report is not None]
        reports = [report for report in done if report.accuracy_test is not None]
        if not reports:
            return ""
        best = max(reports, key=_score)
        split = "test" if best.accuracy_val is None else "validation"
        return f"{100 * _score(best):.2f} % on {split} ({self._labels[best.cell_id]})"

    def table(self) -> Table:
        """The live view."""
        table = Table(title=self.line(), title_justify="left", title_style="bold", expand=False)
        for column in ("running cell", "", "epoch", "accuracy"):
            table.add_column(column)
        with self._lock:
            running = list(self.running.items())
        for cell_id, report in running[:SHOWN]:
            cell = self._cells[cell_id]
            epoch = f"{report.epoch if report else 0}/{cell.config.epochs}"
            accuracy = "" if report is None or report.accuracy_test is None else f"{100 * _score(report):.1f} %"
            table.add_row(self._labels[cell_id], cell_id, epoch, accuracy)
        return table

    def _say(self) -> None:
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            say(self._console, self.line())


class EpochLines:
    """An observer that prints a line per epoch, for a single cell."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def started(self, cell_id: str) -> None:
        """Print the cell's name."""
        say(self._console, f"cell {cell_id}")

    def progressed(self, report: Report) -> None:
        """Print the epoch's accuracies."""
        if report.accuracy_test is None:
            return
        val = "" if report.accuracy_val is None else f"  val {100 * report.accuracy_val:6.2f} %"
        say(self._console, f"epoch {report.epoch:4d}{val}  test {100 * report.accuracy_test:6.2f} %")

    def finished(self, cell_id: str) -> None:
        """Nothing to add."""

    def failed(self, cell_id: str, reason: str, *, rule: str = "") -> None:
        """The reason is printed at the end."""

    def retried(self, cell_id: str, reason: str) -> None:
        """There is no other worker here."""

    def collapsed(self, cell_id: str, events: tuple[Event, ...]) -> None:
        """Nobody looks: a cell alone has no controls."""


def clock(seconds: float) -> str:
    """Seconds as a person reads them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _score(report: Report) -> float:
    score = report.accuracy_test if report.accuracy_val is None else report.accuracy_val
    return 0.0 if score is None else score
