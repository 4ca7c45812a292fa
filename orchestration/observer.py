"""Who is told what happens in a sweep: the live table and the tracking sink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from analysis.events import Event

Ending = Literal["", "finished", "diverged", "stopped", "failed", "out of memory"]


@dataclass(frozen=True)
class Report:
    """A cell's latest epoch, as its worker tells it.

    Accuracies in [0, 1], ``None`` where none is known; ``stored``: the newest epoch with a checkpoint (0: none yet);
    ``flop``: dense FLOP executed, with evaluation, since this worker took the cell; ``ended``: how it ended, if it did,
    and ``reason``.
    """

    cell_id: str
    epoch: int = 0
    accuracy_val: float | None = None
    accuracy_test: float | None = None
    stored: int = 0
    flop: float = 0.0
    ended: Ending = ""
    reason: str = ""


class Observer(Protocol):
    """Called by the driver, in order, from one thread."""

    def started(self, cell_id: str) -> None:
        """A worker took the cell."""

    def progressed(self, report: Report) -> None:
        """The cell trained on."""

    def finished(self, cell_id: str) -> None:
        """The cell's last epoch is in the store."""

    def failed(self, cell_id: str, reason: str, *, rule: str = "") -> None:
        """The cell ended with an error, or the grid's ``rule`` stopped it; the others go on."""

    def retried(self, cell_id: str, reason: str) -> None:
        """The cell's worker was lost; another will go on from its last checkpoint."""

    def collapsed(self, cell_id: str, events: tuple[Event, ...]) -> None:
        """The collapse events of the cell, as far as they are known, are these now: gravest first, or none any more."""


@dataclass(frozen=True)
class Observers:
    """Several observers as one."""

    members: tuple[Observer, ...]

    def started(self, cell_id: str) -> None:
        """A worker took the cell."""
        self._tell(lambda member: member.started(cell_id))

    def progressed(self, report: Report) -> None:
        """The cell trained on."""
        self._tell(lambda member: member.progressed(report))

    def finished(self, cell_id: str) -> None:
        """The cell's last epoch is in the store."""
        self._tell(lambda member: member.finished(cell_id))

    def failed(self, cell_id: str, reason: str, *, rule: str = "") -> None:
        """The cell ended with an error, or was stopped."""
        self._tell(lambda member: member.failed(cell_id, reason, rule=rule))

    def retried(self, cell_id: str, reason: str) -> None:
        """The cell's worker was lost."""
        self._tell(lambda member: member.retried(cell_id, reason))

    def collapsed(self, cell_id: str, events: tuple[Event, ...]) -> None:
        """The cell's collapse events are these now."""
        self._tell(lambda member: member.collapsed(cell_id, events))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for member in self.members:
            what(member)
