"""The driver's side of a sweep: who is next, and what became of whom. Knows no Ray: a process and a cluster alike."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

from orchestration.files import StoreError
from orchestration.observer import Observer, Report
from orchestration.past import failure
from orchestration.store import EARLY_STOPPING, ON_COLLAPSE, Failure
from orchestration.sweep import Sweep
from sweeps.cells import Cell
from sweeps.plan import Plan
from sweeps.policy import Need
from sweeps.scheduler import Scheduler

NOBODY: Mapping[str, str] = MappingProxyType({})
ROUNDING = 1e-6
DEATHS = 3
"""Times a cell goes on after its worker was lost; a fourth loss is its failure."""


@dataclass(frozen=True)
class Budget:
    """What a run may spend before it stops with everything resumable: seconds, and dense FLOP with evaluation."""

    seconds: float | None = None
    flop: float | None = None

    def less(self, seconds: float, flop: float) -> Budget:
        """What is left after so much."""
        left = None if self.seconds is None else self.seconds - seconds
        return Budget(left, None if self.flop is None else self.flop - flop)


class Dispatch:
    """Hands out cells, longest remaining path first, and keeps account of them."""

    def __init__(
        self,
        sweep: Sweep,
        plan: Plan,
        cells: Sequence[Cell],
        observer: Observer,
        budget: Budget | None = None,
        stops: Mapping[str, str] = NOBODY,
    ) -> None:
        """``stops``: cells that are to be stopped, and why; whoever watches the sweep adds to it."""
        chains = {cell.cell_id: sweep.chains[cell.cell_id] for cell in cells}
        self.sweep = sweep
        self.cells = {cell.cell_id: cell for cell in cells}
        self._scheduler = Scheduler(chains, {s: load.flop for s, load in plan.segments.items()}, plan.done)
        self._observer = observer
        self._budget = budget or Budget()
        self._stops = stops
        self._started = time.monotonic()
        self._deaths: Counter[str] = Counter()
        self._alone: set[str] = set()
        self._needs = {cell_id: sweep.need(cell.config) for cell_id, cell in self.cells.items()}
        self._flop: dict[str, float] = {}
        self._epochs: dict[str, int] = {}
        self._spent = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing is left to hand out, now or later."""
        return self._scheduler.left == 0

    @property
    def exhausted(self) -> bool:
        """Whether the budget is used up."""
        seconds, flop = self._budget.seconds, self._budget.flop
        return (seconds is not None and self.seconds >= seconds) or (flop is not None and self.flop >= flop)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    @property
    def flop(self) -> float:
        """Dense FLOP executed so far."""
        return self._spent + sum(self._flop.values())

    def stops(self, cell_id: str) -> bool:
        """Whether a running cell is to be taken back from its worker and given up."""
        return cell_id in self._stops

    def next(self, room: Need | None = None) -> str | None:
        """The cell to run now; ``None`` when all that are left wait for a trunk that is being trained, or for room.

        ``room``: the CPUs and GPUs of all nodes together; ``None`` where nothing else runs.
        """
        cell_id = self._scheduler.next() if room is None else self._scheduler.next(self._fits(room))
        if cell_id is not None:
            self.sweep.store.forget_failure(self.sweep.end(cell_id))
        return cell_id

    def _fits(self, room: Need) -> Callable[[str], bool]:
        """Whether a cell fits beside those that run: of nodes this knows nothing, and Ray may let it wait for one."""
        running = [self.need(one) for one in self._scheduler.running]
        cpus, gpus = room.cpus + ROUNDING, room.gpus + ROUNDING
        cpus, gpus = cpus - sum(need.cpus for need in running), gpus - sum(need.gpus for need in running)

        def fits(cell_id: str) -> bool:
            need = self.need(cell_id)
            return not running or (need.cpus <= cpus and need.gpus <= gpus)

        return fits

    def need(self, cell_id: str) -> Need:
        """What the cell needs now."""
        need = self._needs[cell_id]
        return replace(need, gpus=1.0) if cell_id in self._alone else need

    def needs_whole_device(self, cell_id: str) -> bool:
        """Whether the cell ran out of memory on a shared device."""
        return cell_id in self._alone

    def started(self, cell_id: str) -> None:
        """A worker took the cell."""
        self._observer.started(cell_id)

    def told(self, report: Report) -> None:
        """A worker's report."""
        self._flop[report.cell_id], self._epochs[report.cell_id] = report.flop, report.epoch
        self._observer.progressed(report)
        self._scheduler.reached(report.cell_id, report.stored)
        if report.ended:
            self._spent += self._flop.pop(report.cell_id)
            self._end(report)

    def died(self, cell_id: str, why: str = "the worker process died") -> None:
        """A cell's worker or its node was lost, or the worker was ended because its epoch hung."""
        self._spent += self._flop.pop(cell_id, 0.0)
        self._deaths[cell_id] += 1
        known = self._recorded(cell_id)
        reason = why if known is None else known.reason
        again = self._deaths[cell_id] <= DEATHS
        self._scheduler.released(cell_id, again=again)
        if again:
            self._observer.retried(cell_id, reason)
        else:
            self._fail(cell_id, f"{reason}, {self._deaths[cell_id]} times")

    def returned(self, cell_id: str) -> None:
        """The cell was taken back from its worker before its end; unless it was to be stopped, it is still wanted."""
        reason = self._stops.get(cell_id)
        self._scheduler.released(cell_id, again=reason is None)
        if reason is not None:
            self._fail(cell_id, reason, rule=ON_COLLAPSE)

    def _end(self, report: Report) -> None:
        cell_id = report.cell_id
        if report.ended in ("finished", "diverged"):
            diverged = report.ended == "diverged"
            ended = self._scheduler.diverged(cell_id, report.epoch) if diverged else self._scheduler.finished(cell_id)
            for finished in ended:
                self.sweep.store.forget_failure(self.sweep.end(finished))
                self._observer.finished(finished)
            return
        known = self._recorded(cell_id)
        again = report.ended == "out of memory" and cell_id not in self._alone and self._can_be_alone(cell_id)
        self._scheduler.released(cell_id, again=again)
        if again:
            self._alone.add(cell_id)
            self._observer.retried(cell_id, f"{report.reason}; again on a whole device")
            return
        rule = EARLY_STOPPING if report.ended == "stopped" else ""
        if known is None or known.reason != report.reason:  # the worker could not record it: a full store
            self._fail(cell_id, report.reason, rule=rule)
        else:
            self._observer.failed(cell_id, report.reason, rule=rule)

    def _recorded(self, cell_id: str) -> Failure | None:
        """What is stored of the cell's failure; ``None`` too where the store does not answer: the sweep goes on."""
        with suppress(StoreError):
            return self.sweep.failure(cell_id)
        return None

    def _can_be_alone(self, cell_id: str) -> bool:
        return 0 < self._needs[cell_id].gpus < 1

    def _fail(self, cell_id: str, reason: str, *, rule: str = "") -> None:
        sweep, known = self.sweep, self._recorded(cell_id)
        detail, epoch = "" if known is None else known.detail, self._epochs.get(cell_id)
        now = failure(sweep.chains[cell_id], cell_id, reason, detail=detail, rule=rule, epoch=epoch)
        sweep.store.fail(sweep.end(cell_id), now)
        self._observer.failed(cell_id, reason, rule=rule)
