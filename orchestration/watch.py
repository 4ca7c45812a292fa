"""Collapse events while a sweep is under way: the detection of ``swast analyze``, on what the store holds so far.

An event is ``open`` until the run and its references have reached its horizon; from then on what is known of it is what
``swast analyze`` will say, but for the noise of epochs to come. Looking takes at most ``SHARE`` of the driver's time.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping

from analysis.collapse import collapse_events
from analysis.dips import Detection
from analysis.events import OPEN, Event, to_json
from analysis.runs import TableError, validate_history, validate_runs
from orchestration.files import StoreError
from orchestration.observer import Observer, Report
from orchestration.sweep import Sweep
from orchestration.tables import Course, course, further_fields, tables_so_far
from sweeps.cells import joint

log = logging.getLogger(__name__)
SHARE = 0.02
"""After a look that took a second, the next one is due 1 / SHARE seconds later."""


class Watch:
    """An observer that looks when the store has new rows, and tells another one whose events have changed.

    It holds the controls, and those joint cells that are being trained or have an open event.
    """

    def __init__(self, sweep: Sweep, observer: Observer) -> None:
        self._sweep = sweep
        self._observer = observer
        # Events are losses from one epoch to the next: of cells that are evaluated now and then there are none.
        every = sweep.spec.measurements.evaluate_every == 1
        self._cells = {cell.cell_id: cell for cell in sweep.cells.cells if every and not cell.branched_from}
        self._fields = further_fields(sweep)
        self._courses: dict[str, Course] = {}
        self._changed = {cell_id for cell_id, cell in self._cells.items() if not joint(cell.config)}
        self._stored: dict[str, int] = {}
        self._told: dict[str, str] = {}
        self._due = 0.0
        self.stops: dict[str, str] = {}
        """Cells that the grid wants stopped for what was found of them, and why."""

    def started(self, cell_id: str) -> None:
        """Nothing is stored yet."""

    def progressed(self, report: Report) -> None:
        """The rows of a new checkpoint can be looked at."""
        if report.stored > self._stored.get(report.cell_id, 0):
            self._stored[report.cell_id] = report.stored
            self._look_at(report.cell_id)

    def finished(self, cell_id: str) -> None:
        """All rows can be looked at."""
        self._look_at(cell_id)

    def failed(self, cell_id: str, reason: str, *, rule: str = "") -> None:
        """The cell is no part of the analysis, and no control of another one."""
        self._courses.pop(cell_id, None)
        self._changed.discard(cell_id)

    def retried(self, cell_id: str, reason: str) -> None:
        """The cell goes on."""

    def collapsed(self, cell_id: str, events: tuple[Event, ...]) -> None:
        """It is this object that says so."""

    def _look_at(self, cell_id: str) -> None:
        """Look as soon as it is due; a branch, which is no part of the grid, is not looked at."""
        if cell_id not in self._cells:
            return
        self._changed.add(cell_id)
        started = time.monotonic()
        if started >= self._due:
            try:
                self.look()
            except (StoreError, TableError) as error:  # the sweep goes on without: what was not seen is looked at later
                log.warning("collapse events are not looked for at present: %s", error)
            ended = time.monotonic()
            self._due = ended + (ended - started) / SHARE

    def look(self) -> None:
        """Read what has changed in the store, detect, and tell of each cell whose events are others now."""
        for cell_id in self._changed:
            self._courses[cell_id] = course(self._sweep, self._cells[cell_id])
        self._changed.clear()
        found = self._found()
        for cell_id in sorted(self._courses):
            events = found.get(cell_id, ())
            told = to_json(events) if events else ""
            if told != self._told.get(cell_id, ""):
                self._told[cell_id] = told
                self._observer.collapsed(cell_id, events)
            self._judge(cell_id, events)
        self._forget(found)

    def _judge(self, cell_id: str, events: tuple[Event, ...]) -> None:
        lasting = [event for event in events if event.irreversible]
        if self._sweep.spec.on_collapse == "stop" and lasting and not self._courses[cell_id].over:
            self.stops[cell_id] = f"{lasting[0].reason} (on_collapse)"

    def _found(self) -> Mapping[str, tuple[Event, ...]]:
        """The events by cell, gravest first."""
        known = ((self._cells[cell_id], has) for cell_id, has in self._courses.items())
        runs, history = tables_so_far(self._sweep, known, self._fields)
        settings = Detection(select_every=self._sweep.select_every)
        by_cell: dict[str, tuple[Event, ...]] = defaultdict(tuple)
        for event in collapse_events(validate_runs(runs), validate_history(history), settings):
            by_cell[event.cell_id] += (event,)
        return by_cell

    def _forget(self, found: Mapping[str, tuple[Event, ...]]) -> None:
        """Let go of joint cells that are over and settled: no other cell is compared with them."""
        for cell_id, has in list(self._courses.items()):
            settled = all(event.status != OPEN for event in found.get(cell_id, ()))
            if has.over and settled and joint(self._cells[cell_id].config):
                del self._courses[cell_id]
